//! The tools of the distribution print the same of our broker as of Apache Kafka: each line of `tools.txt` is one run of a
//! tool. All of them run in one Java process for each broker.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{self, Peer, repository, script};

const TOOLS: &str = include_str!("tools.txt");

/// How far what a tool prints has to be the same; `tools.txt` tells what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Same,
    Numbers,
    Own,
    Has(&'static str),
    Ends,
}

/// One run of a tool.
#[derive(Debug, Clone, Copy)]
struct Tool {
    rule: Rule,
    /// `once`, `until` or `leave`, and the text that it waits for.
    how: (&'static str, &'static str),
    /// Class and arguments.
    call: &'static str,
}

impl Tool {
    fn parse(line: &'static str) -> Self {
        let word = |rest: &'static str| rest.split_once(' ').unwrap_or_else(|| panic!("cut short: {line}"));
        let (mut first, mut rest) = word(line);
        let mut how = ("once", "-");
        if matches!(first, "until" | "leave") {
            let (text, behind) = word(rest);
            how = (first, text);
            (first, rest) = word(behind);
        }
        let rule = match first {
            "same" => Rule::Same,
            "numbers" => Rule::Numbers,
            "own" => Rule::Own,
            "has" => {
                let (text, behind) = word(rest);
                rest = behind;
                Rule::Has(text)
            }
            "ends" => Rule::Ends,
            other => panic!("no rule {other}: {line}"),
        };
        Self { rule, how, call: rest }
    }

    /// As `Tools.java` reads it.
    fn line(&self) -> String {
        let package = if self.call.starts_with("kafka.") { "" } else { "org.apache.kafka.tools." };
        format!("{} {} {package}{}\n", self.how.0, self.how.1, self.call)
    }

    /// What counts of a run of it.
    fn comparable(&self, run: &Run) -> (String, Vec<String>) {
        let mut lines = match self.rule {
            Rule::Same => run.lines.clone(),
            Rule::Numbers => run.lines.iter().map(|line| without_numbers(line)).collect(),
            Rule::Own => run.lines.iter().filter(|line| is_own(line)).map(|line| without_numbers(line)).collect(),
            Rule::Has(text) => {
                let text = text.replace("\\s", " ");
                vec![format!("has {text:?}: {}", run.lines.iter().any(|line| line.contains(&text)))]
            }
            Rule::Ends => Vec::new(),
        };
        lines.sort();
        (run.status.clone(), lines)
    }
}

/// What one tool printed and how it ended.
struct Run {
    lines: Vec<String>,
    status: String,
}

/// Does a line name what this run made? Others use the same Apache Kafka, and the ids of their topics are `UUID` here.
fn is_own(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "ID")
}

/// A broker to run them against.
struct Target {
    bootstrap: String,
    log_dir: PathBuf,
    has_acls: bool,
}

fn run_all(target: &Target, tools: &[Tool]) -> Vec<Run> {
    let id = fresh_name("tools");
    let files = tempfile::tempdir().expect("a folder");
    let partition = |more: &str| {
        format!(
            r#"{{"version":1,"partitions":[{{"topic":"{id}","partition":0,{more}}}],"topics":[{{"topic":"{id}"}}]}}"#
        )
    };
    for (name, text) in [
        ("topics", partition(r#""offset":0"#)),
        ("partitions", partition(r#""replicas":[1],"log_dirs":["any"]"#)),
        ("offsets", partition(r#""offset":3"#)),
        ("beyond", partition(r#""offset":99"#)),
    ] {
        std::fs::write(files.path().join(name), text).expect("a file");
    }
    let (folder, data) = (files.path().display().to_string(), target.log_dir.display().to_string());
    let acls = if target.has_acls { "True" } else { "False" };
    let input: String = tools.iter().map(Tool::line).collect();
    let input = [("BOOT", &*target.bootstrap), ("ACLS", acls), ("FILES", &folder), ("DATA", &data), ("ID", &id)]
        .iter()
        .fold(input, |input, (word, value)| input.replace(word, value));

    let mut java = script("kafka")
        .arg("java")
        .arg(repository().join("protocol-tests/tests/clients/Tools.java"))
        .arg(files.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer is there");
    let mut stdin = java.stdin.take().expect("piped");
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = java.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("it reads");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut runs: Vec<Run> = Vec::new();
    for line in text.lines() {
        if line.starts_with("> ") {
            runs.push(Run { lines: Vec::new(), status: "none".to_owned() });
        } else if let Some(run) = runs.last_mut() {
            match line.strip_prefix("< ") {
                Some(status) => run.status = status.to_owned(),
                // A stack trace tells how the tool was called.
                None if line.trim().is_empty() || line.starts_with("\tat ") => {}
                None => run.lines.push(plain(&line.replace(&target.bootstrap, "BOOT").replace(&id, "ID"))),
            }
        }
    }
    assert_eq!(runs.len(), tools.len(), "{}: {text}", target.bootstrap);
    runs
}

/// A line without ids of topics and members, and without paths.
fn plain(line: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | ':');
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        // Names of APIs stand before their number.
        let is_name = part.contains(['.', '/', ':']) || behind.starts_with('(');
        let is_id = part.len() == 22 && part.chars().any(|c| c.is_ascii_uppercase()) && !is_name;
        let member = part.len().checked_sub(36).filter(|from| part.is_char_boundary(*from));
        match member {
            Some(from) if uuid::Uuid::try_parse(&part[from..]).is_ok() => out += &format!("{}UUID", &part[..from]),
            _ if is_id => out += "UUID",
            _ if part.starts_with('/') && part != "/127.0.0.1" => out += "PATH",
            _ => out += part,
        }
        rest = behind;
    }
    out
}

fn without_numbers(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            // Columns are as wide as their numbers.
            ' ' | '\t' | '-' if out.ends_with(' ') => {}
            ' ' | '\t' | '-' => out.push(' '),
            other => out.push(other),
        }
    }
    // A minus makes a difference of no more than one blank.
    out.replace(": N", ":N").replace(" N", "N")
}

/// Issue 5.
#[test]
fn the_tools_of_the_distribution_print_what_they_print_of_apache_kafka() {
    if !peers::have(&[Peer::Kafka]) {
        return;
    }
    let lines = TOOLS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tools: Vec<Tool> = lines.map(Tool::parse).collect();
    let kafka = peers::kafka().expect("installed").to_string();
    let broker = Broker::start(&Options::new());
    let (ours, kafkas) = std::thread::scope(|scope| {
        let target = Target { bootstrap: kafka, log_dir: peers::kafka_log_dir(), has_acls: true };
        let tools = &tools;
        let kafkas = scope.spawn(move || run_all(&target, tools));
        let target = Target { bootstrap: broker.bootstrap(), log_dir: broker.data().join("log"), has_acls: false };
        (run_all(&target, tools), kafkas.join().expect("no panic"))
    });
    let mut wrong = String::new();
    for ((tool, ours), kafkas) in tools.iter().zip(&ours).zip(&kafkas) {
        let (a, b) = (tool.comparable(ours), tool.comparable(kafkas));
        // A text that neither prints, and lines that neither has, would prove nothing.
        let proves_nothing = match tool.rule {
            Rule::Has(_) => a.1.iter().any(|line| line.ends_with("false")),
            Rule::Own => a.1.is_empty(),
            Rule::Same | Rule::Numbers | Rule::Ends => false,
        };
        if a != b || proves_nothing {
            let (printed, kafka_printed) = (ours.lines.join("\n    "), kafkas.lines.join("\n    "));
            wrong += &format!("{tool:?}\n  terrace {a:?}\n    {printed}\n  Apache Kafka {b:?}\n    {kafka_printed}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let last = |runs: &[Run]| listed(&runs.last().expect("BrokerApiVersionsCommand is the last").lines);
    same_apis(&last(&ours), &last(&kafkas));
}

/// Names and ranges that BrokerApiVersionsCommand lists.
fn listed(lines: &[String]) -> BTreeSet<String> {
    let apis = lines.iter().map(|line| line.trim().trim_end_matches(',').to_owned());
    apis.filter(|line| line.contains("): ") && !line.contains("UNSUPPORTED")).collect()
}

/// What both list is the same, and what one of them lists alone is explained in docs/compatibility.md.
fn same_apis(ours: &BTreeSet<String>, kafkas: &BTreeSet<String>) {
    assert!(ours.len() > 40 && kafkas.len() > 60, "{ours:?} {kafkas:?}");
    let doc = std::fs::read_to_string(repository().join("docs/compatibility.md")).expect("the file");
    let row = |api: &str| {
        let name = api.split('(').next().unwrap_or(api).to_owned();
        doc.lines().find(|line| line.contains(&format!("| {name} |"))).unwrap_or_default().to_owned()
    };
    for api in kafkas.difference(ours) {
        let row = row(api);
        assert!(row.contains("absent") || row.contains("never"), "{api} is not explained: {row}");
    }
    for api in ours.difference(kafkas) {
        assert!(row(api).contains("unsupported"), "{api} is not Kafka's");
    }
}
