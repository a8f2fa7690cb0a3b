//! Does the store do what a tier needs? Everything is tried on objects of its own, which are removed again.

use std::sync::Arc;

use object_store::path::Path;

use super::Inspector;
use crate::names::Names;
use crate::store::StoreError;
use crate::store::admin::{Rule, S3Admin, Versioning};
use crate::store::bucket::Created;
use crate::store::open::StoreKind;
use crate::tier::Tier;

/// The smallest first part that S3 takes.
const PART_BYTES: usize = 5 << 20;
/// S3 refuses requests whose time is 15 minutes off; orphans and retention go by the clock too.
const CLOCK_OFF_FAIL_MS: i64 = 10 * 60_000;
const CLOCK_OFF_WARN_MS: i64 = 30_000;
/// Where probes lie when nobody knows a cluster yet.
const NO_CLUSTER: &str = "terrace-doctor";

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Good,
    /// It works, with something to know.
    Warn,
    /// The tier does not work, or loses data, until this is mended.
    Fail,
}

impl Verdict {
    /// One word for a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was checked.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when there is nothing to.
    pub todo: &'static str,
}

fn good(check: &'static str, seen: impl Into<String>) -> Diagnosis {
    Diagnosis { check, verdict: Verdict::Good, seen: seen.into(), todo: "" }
}

fn warn(check: &'static str, seen: impl Into<String>, todo: &'static str) -> Diagnosis {
    Diagnosis { check, verdict: Verdict::Warn, seen: seen.into(), todo }
}

fn fail(check: &'static str, seen: impl Into<String>, todo: &'static str) -> Diagnosis {
    Diagnosis { check, verdict: Verdict::Fail, seen: seen.into(), todo }
}

/// `seen` when it holds; otherwise the failure.
fn check(
    check: &'static str,
    outcome: Result<bool, StoreError>,
    seen: &str,
    not: &str,
    todo: &'static str,
) -> Diagnosis {
    match outcome {
        Ok(true) => good(check, seen),
        Ok(false) => fail(check, not, todo),
        Err(error) => fail(check, error.to_string(), todo),
    }
}

impl Inspector {
    /// Tries all that a tier needs of the store. Below the prefix of `cluster`, if there is one.
    pub async fn examine(&self, cluster: Option<&str>, orphan_age_ms: i64) -> Vec<Diagnosis> {
        let mut found = vec![self.bucket_answers().await];
        if found[0].verdict == Verdict::Fail {
            return found;
        }
        let names = Names::new(&self.root, cluster.unwrap_or(NO_CLUSTER));
        let mut ids = [self.machine.random.uuid(), self.machine.random.uuid()];
        ids.sort_unstable();
        let keys = ids.map(|id| names.probe(id));
        let wrote = self.writes(&keys[0]).await;
        let may_write = wrote.verdict != Verdict::Fail;
        found.push(wrote);
        if may_write {
            found.push(self.creates_if_absent(&keys[0]).await);
            found.push(self.reads(&keys[0]).await);
            found.push(self.has_our_time(&keys[0]).await);
            found.push(self.lists(&names, &keys).await);
            found.push(self.deletes(&keys).await);
            found.push(self.takes_parts(&names.probe(self.machine.random.uuid())).await);
            found.push(self.checks_checksums(&names.probe(self.machine.random.uuid())).await);
        }
        if let Some(admin) = &self.admin {
            found.push(versioning(admin).await);
            found.extend(lifecycle(admin, &self.below()).await);
            found.push(uploads(admin, &self.below(), self.machine.clock.now_ms().saturating_sub(orphan_age_ms)).await);
        }
        if let Some(cluster) = cluster {
            found.push(self.owner(cluster).await);
        }
        found
    }

    /// Puts the rule that lets S3 abort stale uploads below `remote.storage.uri`.
    pub async fn put_abort_rule(&self, days: u32) -> Diagnosis {
        let todo = "some stores abort stale uploads by themselves; the broker does too, every six hours";
        let Some(admin) = &self.admin else { return warn("abort rule", "this store has no such rules", todo) };
        match admin.put_abort_rule(&self.below(), days).await {
            Ok(()) => good("abort rule", format!("put: uploads are aborted after {days} days")),
            Err(error) => warn("abort rule", format!("the store refused it: {error}"), todo),
        }
    }

    /// What all our keys begin with.
    fn below(&self) -> String {
        if self.root.as_ref().is_empty() { String::new() } else { format!("{}/", self.root) }
    }

    async fn bucket_answers(&self) -> Diagnosis {
        const CHECK: &str = "bucket";
        match self.bucket.list_directories(&self.root).await {
            Ok(_) => good(CHECK, "it is there, and what is in it can be listed"),
            // The store's crate has no error of its own for it.
            Err(error) if matches!(error, StoreError::NotFound(_)) || error.to_string().contains("NoSuchBucket") => {
                fail(CHECK, "it does not exist", "make the bucket, or correct remote.storage.uri")
            }
            Err(error @ StoreError::Denied(_)) => fail(
                CHECK,
                error.to_string(),
                "give credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or a role) that may list, read, write and \
                 delete; a clock that is wrong is refused too",
            ),
            Err(error) => fail(
                CHECK,
                error.to_string(),
                "check remote.storage.endpoint, remote.storage.region, the network and the store",
            ),
        }
    }

    async fn writes(&self, key: &Path) -> Diagnosis {
        let wrote = self.bucket.create(key, "first").await.map(|created| created == Created::New);
        check(
            "write",
            wrote,
            "an object was written",
            "a new key exists already",
            "allow s3:PutObject; a full store refuses too",
        )
    }

    async fn creates_if_absent(&self, key: &Path) -> Diagnosis {
        let second = self.bucket.create(key, "second").await.map(|created| created == Created::Exists);
        check(
            "create if absent",
            second,
            "an object that exists is not overwritten",
            "the store ignores If-None-Match: two brokers could destroy each other's data",
            "use another store, or a later version of it; a broker does not start on this one",
        )
    }

    async fn reads(&self, key: &Path) -> Diagnosis {
        let read = async {
            let whole = self.bucket.get(key).await?;
            Ok(whole == "first" && self.bucket.get_range(key, 1..3).await? == "ir")
        };
        let todo = "allow s3:GetObject; a store that cannot read ranges is of no use here";
        check("read", read.await, "whole objects and ranges come back", "other bytes came back", todo)
    }

    async fn has_our_time(&self, key: &Path) -> Diagnosis {
        const CHECK: &str = "clock";
        const TODO: &str =
            "run a time service (NTP) on this machine; signatures, retention and orphans go by the clock";
        let now_ms = self.machine.clock.now_ms();
        match self.bucket.head(key).await.map(|found| now_ms - found.last_modified.timestamp_millis()) {
            Ok(off_ms) if off_ms.abs() >= CLOCK_OFF_FAIL_MS => {
                fail(CHECK, format!("{} s ahead of the store's", off_ms / 1000), TODO)
            }
            Ok(off_ms) if off_ms.abs() >= CLOCK_OFF_WARN_MS => {
                warn(CHECK, format!("{} s ahead of the store's", off_ms / 1000), TODO)
            }
            Ok(_) => good(CHECK, "the same as the store's"),
            Err(error) => fail(CHECK, error.to_string(), TODO),
        }
    }

    async fn lists(&self, names: &Names, keys: &[Path; 2]) -> Diagnosis {
        let listed = async {
            self.bucket.create(&keys[1], "").await?;
            let below = names.prefix().clone().join("probe");
            let pick = |meta: object_store::ObjectMeta| Some(meta.location).filter(|key| keys.contains(key));
            let all = self.bucket.list(&below, None, pick).await?;
            let behind = self.bucket.list(&below, Some(&keys[0]), pick).await?;
            Ok(all == keys[..] && behind == keys[1..])
        };
        let (seen, not) = ("what was written is listed at once", "what was written is not listed, or not in order");
        check("list", listed.await, seen, not, "allow s3:ListBucket; a store whose lists lag behind is of no use here")
    }

    async fn deletes(&self, keys: &[Path; 2]) -> Diagnosis {
        let deleted = async {
            for key in keys.iter().chain(keys) {
                self.bucket.delete(key).await?;
            }
            Ok(matches!(self.bucket.head(&keys[0]).await, Err(StoreError::NotFound(_))))
        };
        let not = "a deleted object is still there";
        check(
            "delete",
            deleted.await,
            "objects go away, also twice",
            not,
            "allow s3:DeleteObject; retention locks forbid it",
        )
    }

    async fn takes_parts(&self, key: &Path) -> Diagnosis {
        let sent = async {
            let mut upload = self.bucket.start_parts(key).await?;
            let sent = async {
                for len in [PART_BYTES, 1000] {
                    let part = upload.put_part(vec![7; len].into());
                    self.bucket.finish_part(part, len as u64).await?;
                }
                self.bucket.complete_parts(upload.as_mut()).await
            };
            if let Err(error) = sent.await {
                self.bucket.abort_parts(upload.as_mut()).await;
                return Err(error);
            }
            let size = self.bucket.head(key).await?.size;
            self.bucket.delete(key).await?;
            Ok(size == PART_BYTES as u64 + 1000)
        };
        let todo = "allow s3:AbortMultipartUpload; segments above 16 MiB are copied in parts";
        check("upload in parts", sent.await, "an object of two parts is whole", "it has another size", todo)
    }

    async fn checks_checksums(&self, key: &Path) -> Diagnosis {
        const CHECK: &str = "checksum";
        let Some(admin) = &self.admin else {
            let seen = match self.kind {
                StoreKind::Local => "a directory checks none: every copy is read back in full",
                StoreKind::S3 | StoreKind::Memory => "this store checks none: every copy is read back in full",
            };
            return good(CHECK, seen);
        };
        match admin.refuses_wrong_checksum(key).await {
            Ok(true) => good(CHECK, "bytes with a wrong SHA-256 are refused"),
            Ok(false) => fail(
                CHECK,
                "bytes with a wrong SHA-256 are taken: what is damaged on the way would be stored",
                "set remote.copy.verify=full",
            ),
            Err(error) => {
                warn(CHECK, error.to_string(), "it is not known; remote.copy.verify=full reads every copy back")
            }
        }
    }

    async fn owner(&self, cluster: &str) -> Diagnosis {
        const CHECK: &str = "owner";
        let newest = async {
            let tier: Arc<Tier> = self.tier(cluster).await.map_err(|error| error.to_string())?;
            tier.newest_owner().await.map_err(|error| error.to_string())
        };
        match newest.await {
            Ok(Some(epoch)) => good(CHECK, format!("cluster {cluster} is owned by node epoch {epoch}")),
            Ok(None) => good(CHECK, format!("nobody owns cluster {cluster}")),
            Err(error) => warn(CHECK, error, ""),
        }
    }
}

async fn versioning(admin: &S3Admin) -> Diagnosis {
    const CHECK: &str = "versioning";
    match admin.versioning().await {
        Ok(Versioning::Off) => good(CHECK, "off: what is deleted is gone"),
        Ok(Versioning::On) => warn(
            CHECK,
            "on: what retention deletes stays as an old version and is billed",
            "let a lifecycle rule expire old versions after the time in which you would want them back",
        ),
        Ok(Versioning::Suspended) => {
            warn(CHECK, "suspended: old versions from before stay and are billed", "remove them if nobody needs them")
        }
        Err(error) => warn(CHECK, format!("the store does not tell: {error}"), ""),
    }
}

async fn lifecycle(admin: &S3Admin, below: &str) -> Vec<Diagnosis> {
    match admin.rules().await {
        Ok(rules) => judge(&rules, below),
        Err(error) => vec![warn("lifecycle rules", format!("the store does not tell: {error}"), "")],
    }
}

/// What the rules do to keys that begin with `below`.
fn judge(rules: &[Rule], below: &str) -> Vec<Diagnosis> {
    const CHECK: &str = "lifecycle rules";
    let ours =
        |rule: &&Rule| rule.enabled && (below.starts_with(rule.prefix.as_str()) || rule.prefix.starts_with(below));
    let mut found = Vec::new();
    for rule in rules.iter().filter(ours) {
        if rule.expires {
            let seen = format!("rule '{}' deletes objects of the tier by their age: records will be lost", rule.id);
            found.push(fail(
                CHECK,
                seen,
                "take the rule away, or let it have another prefix; retention is a topic's setting",
            ));
        }
        if rule.moves {
            let seen = format!("rule '{}' moves objects to another storage class", rule.id);
            found.push(warn(CHECK, seen, "an archive class cannot be read at once; readers would get errors"));
        }
    }
    let aborts = |rule: &Rule| rule.enabled && rule.abort_days.is_some() && below.starts_with(rule.prefix.as_str());
    found.push(match rules.iter().find(|rule| aborts(rule)) {
        Some(rule) => good(CHECK, format!("uploads are aborted after {} days", rule.abort_days.unwrap_or_default())),
        None => warn(
            CHECK,
            "no rule aborts stale uploads",
            "the broker aborts them every six hours; terrace remote doctor --put-abort-rule lets the store do it too",
        ),
    });
    found
}

async fn uploads(admin: &S3Admin, below: &str, oldest_ms: i64) -> Diagnosis {
    const CHECK: &str = "stale uploads";
    match admin.uploads(below).await.map(|all| all.iter().filter(|each| each.initiated_ms <= oldest_ms).count()) {
        Ok(0) => good(CHECK, "none"),
        Ok(stale) => {
            warn(CHECK, format!("{stale} that nobody finished"), "the broker aborts them; so does gc --delete")
        }
        Err(error) => warn(CHECK, format!("the store does not tell: {error}"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, prefix: &str) -> Rule {
        Rule {
            id: id.to_owned(),
            enabled: true,
            prefix: prefix.to_owned(),
            abort_days: None,
            expires: false,
            moves: false,
        }
    }

    fn verdicts(rules: &[Rule]) -> Vec<Verdict> {
        judge(rules, "data/").into_iter().map(|found| found.verdict).collect()
    }

    #[test]
    fn rules_count_where_they_meet_the_tier() {
        use Verdict::{Fail, Good, Warn};
        assert_eq!(verdicts(&[]), [Warn], "nobody aborts uploads");
        let abort = |prefix| Rule { abort_days: Some(2), ..rule("a", prefix) };
        assert_eq!(verdicts(&[abort("")]), [Good]);
        assert_eq!(verdicts(&[abort("data/c/")]), [Warn], "it is for a part of the tier");
        let expire = |prefix| Rule { expires: true, ..rule("e", prefix) };
        assert_eq!(verdicts(&[expire(""), abort("")]), [Fail, Good]);
        assert_eq!(verdicts(&[expire("data/c/seg/"), abort("da")]), [Fail, Good]);
        assert_eq!(verdicts(&[expire("other/"), abort("data/")]), [Good]);
        assert_eq!(verdicts(&[Rule { enabled: false, ..expire("") }, abort("")]), [Good]);
        assert_eq!(verdicts(&[Rule { moves: true, ..rule("m", "") }, abort("")]), [Warn, Good]);
    }
}
