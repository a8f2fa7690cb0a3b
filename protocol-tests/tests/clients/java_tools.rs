use std::io::Write;
use std::process::{Command, Stdio};

use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, run, script};

use crate::running::on_both;

fn tool(bootstrap: &str, args: &[&str]) -> Command {
    let mut command = script("kafka");
    command.arg(args[0]).args(["--bootstrap-server", bootstrap]).args(&args[1..]);
    command
}

#[test]
fn topics_are_made_described_altered_and_deleted() {
    on_both(&[Peer::Kafka], |bootstrap| {
        let topic = fresh_name("tools");
        run(&mut tool(bootstrap, &["topics", "--create", "--topic", &topic, "--partitions", "2"]));
        let described = run(&mut tool(bootstrap, &["topics", "--describe", "--topic", &topic]));
        assert!(described.contains("PartitionCount: 2"), "{described}");
        run(&mut tool(bootstrap, &["topics", "--alter", "--topic", &topic, "--partitions", "3"]));
        run(&mut tool(
            bootstrap,
            &[
                "configs",
                "--alter",
                "--entity-type",
                "topics",
                "--entity-name",
                &topic,
                "--add-config",
                "retention.ms=777777",
            ],
        ));
        let configs =
            run(&mut tool(bootstrap, &["configs", "--describe", "--entity-type", "topics", "--entity-name", &topic]));
        assert!(configs.contains("retention.ms=777777"), "{configs}");
        let described = run(&mut tool(bootstrap, &["topics", "--describe", "--topic", &topic]));
        assert!(described.contains("PartitionCount: 3") && described.contains("retention.ms=777777"), "{described}");
        run(&mut tool(bootstrap, &["topics", "--delete", "--topic", &topic]));
        let listed = run(&mut tool(bootstrap, &["topics", "--list"]));
        assert!(!listed.contains(&topic), "{listed}");
    });
}

#[test]
fn the_consoles_produce_and_consume_alone_and_in_a_group() {
    on_both(&[Peer::Kafka], |bootstrap| {
        let topic = fresh_name("tools");
        run(&mut tool(bootstrap, &["topics", "--create", "--topic", &topic]));
        let mut producer = tool(
            bootstrap,
            &["console-producer", "--topic", &topic, "--property", "parse.key=true", "--property", "key.separator=:"],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the tools are there");
        producer.stdin.take().expect("piped").write_all(b"a:1\nb:2\nc:3\n").expect("it reads");
        assert!(producer.wait().expect("it ends").success());
        let alone = run(&mut tool(
            bootstrap,
            &["console-consumer", "--topic", &topic, "--partition", "0", "--offset", "1", "--max-messages", "2"],
        ));
        assert_eq!(alone, "2\n3\n");
        let group = fresh_name("group");
        let together = run(&mut tool(
            bootstrap,
            &["console-consumer", "--topic", &topic, "--group", &group, "--from-beginning", "--max-messages", "3"],
        ));
        assert_eq!(together, "1\n2\n3\n");
        let described = run(&mut tool(bootstrap, &["groups", "--describe", "--group", &group]));
        let row = described.lines().find(|line| line.starts_with(&group)).unwrap_or_default();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words.get(1..6), Some(&[&*topic, "0", "3", "3", "0"][..]), "{described}");
        let listed = run(&mut tool(bootstrap, &["groups", "--list", "--state"]));
        assert!(listed.lines().any(|line| line.contains(&group) && line.contains("Empty")), "{listed}");
        run(&mut tool(
            bootstrap,
            &["groups", "--reset-offsets", "--group", &group, "--topic", &topic, "--to-earliest", "--execute"],
        ));
        let offsets = run(&mut tool(
            bootstrap,
            &[
                "console-consumer",
                "--topic",
                "__consumer_offsets",
                "--from-beginning",
                "--formatter",
                "org.apache.kafka.tools.consumer.OffsetsMessageFormatter",
                "--timeout-ms",
                "5000",
            ],
        ));
        assert!(offsets.contains(&group) && offsets.contains(&topic), "{offsets}");
        run(&mut tool(bootstrap, &["groups", "--delete", "--group", &group]));
    });
}

#[test]
fn offsets_records_and_log_dirs_are_told() {
    on_both(&[Peer::Kafka], |bootstrap| {
        let topic = fresh_name("tools");
        run(&mut tool(bootstrap, &["topics", "--create", "--topic", &topic]));
        let acked = run(script("kafka").args(["verifiable-producer", "--bootstrap-server", bootstrap]).args([
            "--topic",
            &topic,
            "--max-messages",
            "100",
        ]));
        assert!(acked.contains("\"acked\":100"), "{acked}");
        let offsets = run(&mut tool(bootstrap, &["get-offsets", "--topic", &topic, "--time", "latest"]));
        assert_eq!(offsets.trim(), format!("{topic}:0:100"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let json = format!(r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":40}}],"version":1}}"#);
        std::fs::write(file.path(), json).expect("a file");
        let deleted =
            run(&mut tool(bootstrap, &["delete-records", "--offset-json-file", &file.path().display().to_string()]));
        assert!(deleted.contains("low_watermark: 40"), "{deleted}");
        let offsets = run(&mut tool(bootstrap, &["get-offsets", "--topic", &topic, "--time", "earliest"]));
        assert_eq!(offsets.trim(), format!("{topic}:0:40"));
        let dirs = run(&mut tool(bootstrap, &["log-dirs", "--describe", "--topic-list", &topic]));
        assert!(dirs.contains(&format!("\"partition\":\"{topic}-0\"")), "{dirs}");
    });
}

/// kafka-consumer-groups in full, for a group of the consumer protocol that a console consumer makes.
#[test]
fn groups_of_the_consumer_protocol_are_shown_and_reset() {
    on_both(&[Peer::Kafka], |bootstrap| {
        let (topic, group) = (fresh_name("tools"), fresh_name("group"));
        run(&mut tool(bootstrap, &["topics", "--create", "--topic", &topic]));
        run(script("kafka").args(["verifiable-producer", "--bootstrap-server", bootstrap]).args([
            "--topic",
            &topic,
            "--max-messages",
            "100",
        ]));
        let mut consumer = tool(
            bootstrap,
            &[
                "console-consumer",
                "--topic",
                &topic,
                "--group",
                &group,
                "--from-beginning",
                "--consumer-property",
                "group.protocol=consumer",
            ],
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the tools are there");
        let describe = |more: &[&str]| {
            let args = [&["groups", "--describe", "--group", &group][..], more].concat();
            run(&mut tool(bootstrap, &args))
        };
        let words = |table: &str, column: &str| {
            let mut lines = table.lines().filter(|line| !line.trim().is_empty());
            let at = lines.find_map(|line| line.split_whitespace().position(|word| word == column));
            let row = lines.next().unwrap_or_default();
            at.and_then(|at| row.split_whitespace().nth(at)).unwrap_or_default().to_owned()
        };
        // Until it has committed all there is.
        let offsets = loop {
            let shown = describe(&["--offsets"]);
            if shown.lines().filter(|line| line.starts_with(&group) && line.contains(" 0 ")).count() == 1 {
                break shown;
            }
        };
        assert!(offsets.contains("LOG-END-OFFSET"), "{offsets}");
        let members = describe(&["--members", "--verbose"]);
        assert_eq!(words(&members, "#PARTITIONS"), "1", "{members}");
        assert!(members.contains("CURRENT-EPOCH") && members.contains("TARGET-ASSIGNMENT"), "{members}");
        let state = describe(&["--state", "--verbose"]);
        assert!(state.contains("uniform") && state.contains("Stable") && state.contains("GROUP-EPOCH"), "{state}");
        let listed = run(&mut tool(bootstrap, &["groups", "--list", "--type", "consumer", "--state", "stable"]));
        assert!(listed.contains(&group), "{listed}");
        let listed = run(&mut tool(bootstrap, &["groups", "--list", "--type", "classic"]));
        assert!(!listed.contains(&group), "{listed}");
        // It leaves the group when it is asked to end.
        run(Command::new("kill").arg(consumer.id().to_string()));
        consumer.wait().expect("it ends");
        while !describe(&["--state"]).contains("Empty") {}
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), format!("{topic},0,7\n")).expect("a file");
        let path = file.path().display().to_string();
        for how in [
            &["--to-earliest"][..],
            &["--to-latest"],
            &["--to-current"],
            &["--to-offset", "5"],
            &["--shift-by", "-2"],
            &["--by-duration", "PT1H"],
            &["--to-datetime", "2020-01-01T00:00:00.000"],
            &["--from-file", &path],
        ] {
            let target = if how[0] == "--from-file" { &[][..] } else { &["--topic", &topic] };
            let args = [&["groups", "--reset-offsets", "--group", &group, "--execute"][..], target, how].concat();
            let reset = run(&mut tool(bootstrap, &args));
            assert_eq!(reset.lines().filter(|line| line.starts_with(&group)).count(), 1, "{how:?}: {reset}");
        }
        let offsets = describe(&["--offsets"]);
        let committed: Vec<_> =
            offsets.lines().filter(|l| l.starts_with(&group)).filter_map(|l| l.split_whitespace().nth(3)).collect();
        assert_eq!(committed, ["7"], "{offsets}");
        let deleted = run(&mut tool(
            bootstrap,
            &["groups", "--delete-offsets", "--group", &group, "--topic", &format!("{topic}:0")],
        ));
        assert!(deleted.contains("Successful"), "{deleted}");
        run(&mut tool(bootstrap, &["groups", "--delete", "--group", &group]));
        let listed = run(&mut tool(bootstrap, &["groups", "--list"]));
        assert!(!listed.contains(&group), "{listed}");
    });
}
