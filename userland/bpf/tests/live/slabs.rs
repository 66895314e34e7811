//! Slab caches, against `/proc/slabinfo`.

use pidlist_bpf::Programs;
use pidlist_slabs::Snapshot;

use crate::{Outcome, Test, ensure};

pub const TESTS: &[Test] = &[("slabs_equal_slabinfo", slabs_equal_slabinfo)];

fn slabs_equal_slabinfo(programs: &Programs) -> Outcome {
    let (mut compared, mut exact) = (0, 0);
    for _ in 0..20 {
        let before = Snapshot::from_slabinfo()?;
        let ours = Snapshot::from_bpf(programs)?;
        let after = Snapshot::from_slabinfo()?;
        (compared, exact) = (0, 0);
        let names = |s: &Snapshot| s.caches.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        if names(&before) != names(&after) {
            continue;
        }
        ensure!(
            names(&ours) == names(&before),
            "other caches, or another order"
        );
        for ((ours, before), after) in ours.caches.iter().zip(&before.caches).zip(&after.caches) {
            let shape = |c: &pidlist_slabs::Cache| (c.size, c.objects_per_slab, c.pages_per_slab);
            ensure!(shape(ours) == shape(before), "{ours:?} is not {before:?}");
            ensure!(
                ours.object_size.is_some_and(|size| size <= ours.size),
                "{ours:?}"
            );
            ensure!(ours.users.is_some_and(|users| users >= 1), "{ours:?}");
            compared += 1;
            if (before.slabs, before.objects) == (after.slabs, after.objects) {
                ensure!(
                    (ours.slabs, ours.objects) == (before.slabs, before.objects),
                    "{ours:?} is not {before:?}"
                );
                ensure!(ours.partial_slabs <= ours.slabs, "{ours:?}");
                exact += 1;
            }
        }
        if exact == compared {
            break;
        }
    }
    ensure!(compared > 50, "{compared} caches only");
    ensure!(
        exact * 10 >= compared * 8,
        "{exact} of {compared} held still"
    );
    println!("{compared} caches equal in shape, {exact} held still and are equal in counts");
    Ok(())
}
