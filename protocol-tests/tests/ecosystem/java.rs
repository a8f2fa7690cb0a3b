//! Java programs that run beside the test until they are done or killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use terrace_protocol_tests::peers::{repository, run, script};

/// Runs one of the programs beside this file to its end; what it printed.
pub fn java(program: &str, args: &[&str]) -> String {
    run(script("kafka").arg("java").arg(source(program)).args(args))
}

fn source(program: &str) -> std::path::PathBuf {
    repository().join("protocol-tests/tests/ecosystem").join(program)
}

/// A program in the background; killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    /// One of the programs beside this file.
    pub fn java(program: &str, args: &[&str]) -> Self {
        Self::command(script("kafka").arg("java").arg(source(program)).args(args))
    }

    /// A class of the distribution.
    pub fn class(class: &str, args: &[&str]) -> Self {
        Self::command(script("kafka").args(["tool", class]).args(args))
    }

    fn command(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("java is there");
        let (to, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let to = to.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The test may have stopped listening.
                    let _ = to.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits until it prints a line with `text`; false when it ends before.
    pub fn says(&self, text: &str, within: Duration) -> bool {
        self.line_with(text, within).is_some()
    }

    /// The next line that it prints with `text` in it; none when it ends before.
    pub fn line_with(&self, text: &str, within: Duration) -> Option<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(within) {
                Ok(line) if line.contains(text) => return Some(line),
                Ok(line) => said.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    println!("it ended without {text:?}:\n{}", said.join("\n"));
                    return None;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("nothing about {text:?} within {within:?}:\n{}", said.join("\n"))
                }
            }
        }
    }

    /// Ends it without a chance to clean up.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // The script has become the program, so this is the program.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
