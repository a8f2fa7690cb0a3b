//! Groups of members that join at once, then one more in each: until everyone has its part of the partitions, and then a
//! while in which nothing happens but heartbeats.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Broker, Topic};
use crate::Outcome;
use crate::connection::Connection;
use crate::group_wire::{self, Consumer};
use crate::meter::Reading;

/// A member's thread needs little.
const STACK_BYTES: usize = 256 << 10;
const STABLE_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// KIP-848.
    Consumer,
}

#[derive(Debug, Args)]
pub struct Group {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    topic: Topic,
    #[arg(long, value_enum, default_value = "classic")]
    protocol: Protocol,
    #[arg(long, default_value_t = 1)]
    groups: usize,
    /// In each group at first.
    #[arg(long, default_value_t = 100)]
    members: usize,
    /// Between two heartbeats of a member.
    #[arg(long, default_value_t = 500)]
    beat_ms: u64,
    /// How long only heartbeats are sent at the end.
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
}

/// What each member of a group was told last: its generation or epoch, and how many partitions it has. The classic leader
/// gives away all partitions, so that its followers' share need not be read.
struct Board {
    groups: Mutex<Vec<Vec<(i32, usize)>>>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<(i32, usize)>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, (group, member): (usize, usize), generation: i32, partitions: usize) {
        self.lock()[group][member] = (generation, partitions);
        self.changed.notify_all();
    }

    /// Until the members of every group are all in one generation, behind `before`, and have all partitions.
    fn wait_stable(&self, partitions: usize, before: &[i32]) -> Outcome<Vec<i32>> {
        let is_stable = |(group, before): (&Vec<(i32, usize)>, &i32)| {
            let generation = group[0].0;
            generation > *before
                && group.iter().all(|member| member.0 == generation)
                && group.iter().map(|member| member.1).sum::<usize>() == partitions
        };
        let unstable = |groups: &mut Vec<Vec<(i32, usize)>>| !groups.iter().zip(before).all(is_stable);
        let waited = self.changed.wait_timeout_while(self.lock(), STABLE_WITHIN, unstable);
        let (groups, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        match timeout.timed_out() {
            true => Err("the groups do not become stable".into()),
            false => Ok(groups.iter().map(|group| group[0].0).collect()),
        }
    }
}

impl Group {
    pub fn run(self) -> Outcome<Value> {
        let board =
            Board { groups: Mutex::new(vec![vec![(0, 0); self.members]; self.groups]), changed: Condvar::new() };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let measured = self.measure(scope, &board, &stop);
            stop.store(true, Relaxed);
            measured
        })
    }

    fn measure<'s, 'e>(&'e self, scope: &'s Scope<'s, 'e>, board: &'e Board, stop: &'e AtomicBool) -> Outcome<Value> {
        let pid = self.broker.pid;
        group_wire::find_coordinator(&mut Connection::open(&self.broker.address)?, &self.group((0, 0)))?;
        let (before, begun) = (Reading::of(pid).cpu_s(), Instant::now());
        for group in 0..self.groups {
            for member in 0..self.members {
                self.spawn(scope, board, stop, (group, member))?;
            }
        }
        let formed = board.wait_stable(self.topic.partitions, &vec![0; self.groups])?;
        let formed_s = begun.elapsed().as_secs_f64();
        let (formed_cpu_s, begun) = (Reading::of(pid).cpu_s(), Instant::now());
        board.lock().iter_mut().for_each(|group| group.push((0, 0)));
        for group in 0..self.groups {
            self.spawn(scope, board, stop, (group, self.members))?;
        }
        board.wait_stable(self.topic.partitions, &formed)?;
        let rebalanced_s = begun.elapsed().as_secs_f64();
        let rebalanced = Reading::of(pid).cpu_s();
        thread::sleep(Duration::from_secs_f64(self.secs));
        let idle_cpu_s = Reading::of(pid).cpu_s() - rebalanced;
        Ok(json!({
            "formed_s": formed_s, "formed_cpu_s": formed_cpu_s - before, "rebalanced_s": rebalanced_s,
            "rebalanced_cpu_s": rebalanced - formed_cpu_s, "heartbeat_cores": idle_cpu_s / self.secs,
            "rss_mib": Reading::of(pid).rss_kib as f64 / 1024.0,
        }))
    }

    fn spawn<'s, 'e>(
        &'e self,
        scope: &'s Scope<'s, 'e>,
        board: &'e Board,
        stop: &'e AtomicBool,
        place: (usize, usize),
    ) -> Outcome<()> {
        let member = move || {
            let lived = match self.protocol {
                Protocol::Classic => self.classic(board, stop, place),
                Protocol::Consumer => self.consumer(board, stop, place),
            };
            if let Err(error) = lived
                && !stop.load(Relaxed)
            {
                eprintln!("loadgen: a member of group {}: {error}", place.0);
            }
        };
        thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, member)?;
        Ok(())
    }

    fn group(&self, (group, _): (usize, usize)) -> String {
        format!("{}-{group}", self.topic.topic)
    }

    fn classic(&self, board: &Board, stop: &AtomicBool, place: (usize, usize)) -> Outcome<()> {
        let (group, mut connection) = (self.group(place), Connection::open(&self.broker.address)?);
        let mut member_id = String::new();
        while !stop.load(Relaxed) {
            let joined = group_wire::join(&mut connection, &group, &member_id, &self.topic.topic)?;
            member_id.clone_from(&joined.member_id);
            if !group_wire::sync(&mut connection, &group, &joined, self.topic.partitions)? {
                continue;
            }
            let given = if joined.members.is_empty() { 0 } else { self.topic.partitions };
            board.told(place, joined.generation, given);
            while !stop.load(Relaxed) && group_wire::heartbeat(&mut connection, &group, &joined)? {
                thread::sleep(Duration::from_millis(self.beat_ms));
            }
        }
        Ok(())
    }

    fn consumer(&self, board: &Board, stop: &AtomicBool, place: (usize, usize)) -> Outcome<()> {
        let (group, mut connection) = (self.group(place), Connection::open(&self.broker.address)?);
        let member_id = format!("member-{}-{}", place.0, place.1);
        let mut member = Consumer { member_id, epoch: 0, topic_id: [0; 16], owned: Vec::new() };
        while !stop.load(Relaxed) {
            match member.heartbeat(&mut connection, &group, &self.topic.topic)? {
                true => board.told(place, member.epoch, member.owned.len()),
                false => thread::sleep(Duration::from_millis(self.beat_ms)),
            }
        }
        Ok(())
    }
}
