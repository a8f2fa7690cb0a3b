use std::io::Write;
use std::process::{Command, Stdio};

use rstest::rstest;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, run};

use crate::running::on_both;

fn kcat(bootstrap: &str, args: &[&str]) -> Command {
    let mut command = Command::new("kcat");
    command.args(["-b", bootstrap]).args(args);
    command
}

fn kcat_in(bootstrap: &str, args: &[&str], input: &str) {
    let mut child = kcat(bootstrap, args).stdin(Stdio::piped()).spawn().expect("kcat is there");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("kcat reads");
    assert!(child.wait().expect("kcat ends").success());
}

#[test]
fn it_lists_produces_and_consumes() {
    on_both(&[Peer::Kcat], |bootstrap| {
        let topic = fresh_name("kcat");
        kcat_in(bootstrap, &["-P", "-t", &topic, "-p", "0", "-K", ":", "-H", "h=1"], "a:1\nb:2\nc:3\n");
        let read = run(&mut kcat(
            bootstrap,
            &["-C", "-t", &topic, "-p", "0", "-e", "-q", "-f", "%o %k=%s %h\n", "-o", "beginning"],
        ));
        assert_eq!(read, "0 a=1 h=1\n1 b=2 h=1\n2 c=3 h=1\n");
        let listed = run(&mut kcat(bootstrap, &["-L", "-t", &topic]));
        assert!(listed.contains(&format!("topic \"{topic}\" with 1 partitions")), "{listed}");
        let tail = run(&mut kcat(bootstrap, &["-C", "-t", &topic, "-e", "-q", "-o", "-1", "-f", "%s\n", "-p", "0"]));
        assert_eq!(tail, "3\n");
    });
}

#[rstest]
#[case("gzip")]
#[case("snappy")]
#[case("lz4")]
#[case("zstd")]
fn every_compression_passes_through(#[case] codec: &str) {
    on_both(&[Peer::Kcat], |bootstrap| {
        let topic = fresh_name("kcat");
        let lines: String = (0..500).map(|i| format!("line {i} {}\n", "abc".repeat(30))).collect();
        kcat_in(bootstrap, &["-P", "-t", &topic, "-p", "0", "-z", codec], &lines);
        let read = run(&mut kcat(bootstrap, &["-C", "-t", &topic, "-p", "0", "-e", "-q", "-o", "beginning"]));
        assert_eq!(read, lines);
    });
}
