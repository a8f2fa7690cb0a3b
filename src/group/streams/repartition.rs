//! How many partitions the topics between subtopologies have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::configure::{Counts, Misfit, count};
use super::topology::{Subtopology, Topology, invalid};
use crate::metadata::image::Image;

/// What was set, else the most partitions of what the writer reads, which may itself be such a topic: so in rounds, until
/// nothing new is known.
pub(super) fn repartition_counts(topology: &Topology, image: &Image) -> Result<Counts, Misfit> {
    let each = || topology.subtopologies.values();
    let set = each().flat_map(|one| &one.repartition_sources).filter(|topic| topic.partitions != 0);
    let mut counts: Counts = set.map(|topic| (Arc::clone(&topic.name), topic.partitions)).collect();
    if let Some((name, partitions)) = counts.iter().find(|(_, partitions)| **partitions < 0) {
        return Err(invalid(format!("Repartition topic {name} cannot have {partitions} partitions.")).into());
    }
    loop {
        let (mut open, mut progress) = (false, false);
        for one in each() {
            let unknown: Vec<_> = one.repartition_sinks.iter().filter(|sink| !counts.contains_key(*sink)).collect();
            if unknown.is_empty() {
                continue;
            }
            match read_by(one, &counts, image) {
                None => open = true,
                Some(most) => {
                    progress = true;
                    counts.extend(unknown.into_iter().map(|sink| (Arc::clone(sink), most)));
                }
            }
        }
        match (open, progress) {
            (false, _) => break,
            (true, true) => {}
            (true, false) => {
                return Err(invalid(
                    "Failed to compute number of partitions for all repartition topics. There may be loops in the \
                     topology that cannot be resolved.",
                )
                .into());
            }
        }
    }
    match each().flat_map(|one| &one.repartition_sources).all(|topic| counts.contains_key(&topic.name)) {
        true => Ok(counts),
        false => Err(invalid(
            "Failed to compute number of partitions for all repartition topics, because a repartition source topic is \
             never used as a sink topic.",
        )
        .into()),
    }
}

fn read_by(one: &Subtopology, counts: &Counts, image: &Image) -> Option<i32> {
    let repartitions = one.repartition_sources.iter().filter_map(|topic| counts.get(&topic.name).copied());
    let sources = one.source_topics.iter().filter_map(|name| count(name, counts, image));
    repartitions.chain(sources).max()
}

/// Makes the repartition topics of every copartition group alike, or tells which topics never can be.
pub(super) fn copartition(topology: &Topology, image: &Image, counts: &mut Counts) -> Result<(), Misfit> {
    let each = || topology.subtopologies.values();
    let repartitions = || each().flat_map(|one| &one.repartition_sources);
    let set: BTreeSet<_> = repartitions().filter(|topic| topic.partitions != 0).map(|topic| &topic.name).collect();
    let all: BTreeSet<_> = repartitions().map(|topic| &topic.name).collect();
    for one in each() {
        for group in &one.copartition_groups {
            let names = one.copartitioned(group);
            let names = names.ok_or_else(|| invalid("A copartition group names a topic that is not there."))?;
            alike(&names, &set, &all, image, counts)?;
        }
    }
    Ok(())
}

fn alike(
    names: &BTreeSet<&Arc<str>>,
    set: &BTreeSet<&Arc<str>>,
    repartitions: &BTreeSet<&Arc<str>>,
    image: &Image,
    counts: &mut Counts,
) -> Result<(), Misfit> {
    let (internal, external): (Vec<&Arc<str>>, Vec<_>) =
        names.iter().copied().partition(|name| repartitions.contains(*name));
    let counted = |names: &[&Arc<str>]| -> BTreeMap<Arc<str>, i32> {
        names.iter().filter_map(|name| Some((Arc::clone(name), count(name, counts, image)?))).collect()
    };
    let internal = counted(&internal);
    let partitions = if !external.is_empty() {
        same(&counted(&external), None)?
    } else if !set.is_empty() {
        // As in Kafka all that were set are compared, also those of other groups.
        let set: Vec<_> = set.iter().copied().collect();
        same(&counted(&set), Some(&internal))?
    } else {
        internal.values().copied().max()
    };
    let Some(partitions) = partitions else { return Ok(()) };
    for (name, known) in internal {
        if set.contains(&name) && known != partitions {
            return Err(Misfit::incorrectly_partitioned(format!(
                "Number of partitions [{known}] of repartition topic [{name}] doesn't match number of partitions \
                 [{partitions}] of the source topic."
            )));
        }
        counts.insert(name, partitions);
    }
    Ok(())
}

/// The number that all of `counts` have; those of `shown`, or they themselves, are named if they differ.
fn same(counts: &BTreeMap<Arc<str>, i32>, shown: Option<&BTreeMap<Arc<str>, i32>>) -> Result<Option<i32>, Misfit> {
    let mut numbers = counts.values().copied();
    let first = numbers.next();
    if numbers.all(|number| Some(number) == first) {
        return Ok(first);
    }
    let shown: Vec<_> =
        shown.unwrap_or(counts).iter().map(|(name, partitions)| format!("{name}={partitions}")).collect();
    Err(Misfit::incorrectly_partitioned(format!(
        "Following topics do not have the same number of partitions: [{{{}}}]",
        shown.join(", ")
    )))
}
