//! Replays of one set that overlap: cases that failed once, as they were shrunk.

use newswire_core::BacklogPolicy;

use crate::client::CommandSeed;
use crate::world::Seed;
use crate::{Case, Op};

fn command(client: u8, [kind, sub, channels, filter, start, amount]: [u8; 6]) -> Op {
    Op::Command(client, CommandSeed { kind, sub, channels, filter, start, amount })
}

fn append(events: &[(u8, u8, u8, u8, u16)]) -> Op {
    let seed = |&(channel, event_type, agent, number, size)| Seed {
        channel,
        event_type,
        agent,
        number,
        size,
        hole: 0,
    };
    Op::Append(events.iter().map(seed).collect())
}

/// One replay (`tasks`, `tests`) is over and its last events wait for their place; the connection falls behind; another
/// of the same set (`t*`), which is further back, joins the live path before that place: what is live by then comes once.
#[test]
fn the_end_of_a_replay_does_not_repeat_what_its_set_has_live_by_then() {
    let ops = vec![
        command(23, [245, 216, 131, 114, 243, 52]),
        command(215, [61, 185, 128, 195, 48, 44]),
        command(213, [242, 168, 136, 51, 17, 107]),
        command(91, [158, 147, 48, 234, 102, 52]),
        append(&[
            (163, 88, 46, 0, 132),
            (146, 133, 52, 15, 176),
            (10, 26, 139, 19, 178),
            (222, 246, 60, 132, 165),
            (10, 90, 238, 175, 46),
            (167, 224, 184, 202, 79),
        ]),
        Op::Dispatch(None, 2),
        Op::Pump(215, 126, 3),
        command(169, [23, 208, 146, 86, 6, 104]),
        append(&[
            (61, 236, 144, 4, 89),
            (175, 160, 112, 35, 164),
            (65, 125, 107, 246, 140),
            (77, 64, 168, 174, 172),
            (146, 213, 225, 62, 164),
        ]),
    ];
    let case =
        Case { policy: BacklogPolicy::CatchUp, tight: true, clients: 2, in_process: 0, rules: [0; 4], ops };
    assert_eq!(case.judge(), Ok(()));
}
