//! Who works at the sample company, what it builds, and what its people say. All of it made up for this project.

/// What somebody can do, and what a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skill {
    Lead,
    Design,
    Build,
    Review,
    Test,
    Write,
}

/// A member of the company.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) role: &'static str,
    pub(super) skills: &'static [Skill],
}

pub(super) const COMPANY: &str = "Lantern & Finch";

/// Hired when the company opens, and never let go.
pub(super) const STAFF: &[Person] = &[
    Person { id: "ceo", name: "Imogen Vale", role: "Chief executive", skills: &[Skill::Lead] },
    Person {
        id: "cto",
        name: "Tariq Osei",
        role: "Chief technologist",
        skills: &[Skill::Lead, Skill::Review],
    },
    Person { id: "designer", name: "Mei Tanaka", role: "Designer", skills: &[Skill::Design] },
    Person { id: "programmer", name: "Nils Okafor", role: "Programmer", skills: &[Skill::Build] },
    Person {
        id: "reviewer",
        name: "Priya Lindqvist",
        role: "Code reviewer",
        skills: &[Skill::Review, Skill::Build],
    },
    Person { id: "tester", name: "Bo Castellane", role: "Tester", skills: &[Skill::Test] },
    Person {
        id: "writer",
        name: "Oriel Byrne",
        role: "Technical writer",
        skills: &[Skill::Write, Skill::Design],
    },
];

/// Come when there is too much to do and go when there is not.
pub(super) const CONTRACTORS: &[Person] = &[
    Person { id: "contractor_ash", name: "Ash Duval", role: "Contract programmer", skills: &[Skill::Build] },
    Person { id: "contractor_kit", name: "Kit Marlow", role: "Contract tester", skills: &[Skill::Test] },
    Person {
        id: "contractor_sol",
        name: "Sol Ibarra",
        role: "Contract programmer",
        skills: &[Skill::Build, Skill::Test],
    },
];

/// Something to build.
#[derive(Debug)]
pub(super) struct Pitch {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) goal: &'static str,
    pub(super) features: &'static [&'static str],
}

pub(super) const PITCHES: &[Pitch] = &[
    Pitch {
        id: "tidebook",
        name: "Tidebook",
        goal: "A pocket almanac of tides for people who row before work",
        features: &["the tide curve", "harbour search", "the wind overlay", "sunrise alarms"],
    },
    Pitch {
        id: "seedbank",
        name: "Seedbank",
        goal: "A ledger for allotment neighbours who swap seeds and never remember who owes whom",
        features: &["the swap ledger", "the sowing calendar", "label printing"],
    },
    Pitch {
        id: "nightbus",
        name: "Night Bus",
        goal: "The last three ways home, on one screen, with no account",
        features: &["live departures", "the walking map", "the late-fare table", "offline timetables"],
    },
    Pitch {
        id: "choirloft",
        name: "Choir Loft",
        goal: "Rehearsal tracks for singers who cannot read music yet",
        features: &["the part mixer", "slow practice", "the pitch trainer"],
    },
    Pitch {
        id: "repairshelf",
        name: "Repair Shelf",
        goal: "A counter book for repair cafés: what came in, who mended it, what it saved",
        features: &["the intake form", "the mender rota", "the saved-waste report", "spare-part search"],
    },
    Pitch {
        id: "fogsignal",
        name: "Fog Signal",
        goal: "A status page that says what is broken in words a tired person understands",
        features: &["the incident timeline", "plain-language summaries", "quiet-hours alerts"],
    },
];

/// The step of a feature that each skill takes, in order: what the task is called, and how many rounds of work it takes.
pub(super) const STAGES: &[(Skill, &str, u32)] = &[
    (Skill::Design, "Sketch", 2),
    (Skill::Build, "Build", 4),
    (Skill::Test, "Test", 2),
    (Skill::Write, "Document", 1),
];

pub(super) const ASSIGNING: &[&str] = &[
    "“{task}” is yours. Small steps, and show me early.",
    "Could you take “{task}”? The others wait for it.",
    "Please pick up “{task}” next; the notes are in the project folder.",
    "You know this corner best: “{task}”, please.",
    "I moved “{task}” to you. Say no today rather than on Friday.",
    "“{task}”: two days if it is easy. Tell me on the first if it is not.",
];

/// What people say while they work, each in their trade.
pub(super) const fn working(skill: Skill) -> &'static [&'static str] {
    match skill {
        Skill::Design => &[
            "Three sketches of {feature} are up. The plain one is the good one.",
            "{feature}: I left the colours out on purpose, please look at the order of things.",
            "Watched two people use the sketch of {feature}. Both looked for the button on the left.",
            "{feature} fits on one screen now. It took away a menu and gave back a sentence.",
        ],
        Skill::Build | Skill::Review | Skill::Lead => &[
            "First half of {feature} stands; the edge cases are next.",
            "{feature} is smaller than we thought once the two lists became one.",
            "I took the clever part out of {feature}. It is faster and I can read it.",
            "{feature} works on my desk. Writing the unpleasant tests now.",
            "Found why {feature} flickered: two timers, one truth. One timer now.",
            "Halfway through {feature}. One question about the empty state is in the notes.",
            "{feature} no longer asks the server twice. Nobody will notice, which is the point.",
        ],
        Skill::Test => &[
            "Trying {feature} with a slow connection. It is honest about waiting, at least.",
            "{feature} survives a thousand entries. It does not survive none; looking closer.",
            "Pulled the plug in the middle of {feature}. It came back where it was.",
            "Went through {feature} with the screen reader. Two labels are missing.",
        ],
        Skill::Write => &[
            "{feature} in one page, with the example first.",
            "Writing down {feature} showed that two words mean the same. Which one do we keep?",
            "The guide to {feature} has a picture now, and half the text.",
        ],
    }
}

pub(super) const REWORK: &[&str] = &[
    "{feature}: it breaks when the list is empty. Could you look again?",
    "Good bones, but {feature} asks the server twice. Please make it one question.",
    "The names in {feature} took me three readings. Back to you with suggestions.",
    "I could crash {feature} by pressing the button twice. Sorry.",
];

pub(super) const PRAISE: &[&str] = &[
    "Approved. {feature} reads like it was always there.",
    "Merged. I learned something from the tests of {feature}.",
    "{feature} is done, and done well. Thank you.",
    "No remarks on {feature}. That has not happened in a while.",
];

pub(super) const CHATTER: &[&str] = &[
    "Has anybody seen the spare adapter? The blue one.",
    "The kettle is fixed. Minutes of the kettle meeting follow.",
    "I wrote down how we name things, before we forget again.",
    "Release notes draft is up. Be kind, it is a draft.",
    "Whoever cleaned up the build warnings: the whole floor thanks you.",
    "Lunch at half past twelve; the table by the window is ours.",
    "I am off at four today, everything I hold is in the notes.",
    "Could we agree that a week has five days and not six?",
];

pub(super) const REMARKS: &[&str] = &[
    "I need one quiet morning, then it is done.",
    "If we drop the second screen, the first one gets good.",
    "Can we decide this now and write it down?",
    "I heard the same wish from three people this week.",
    "Nothing is on fire. I checked twice.",
    "We said small. This is not small.",
];

pub(super) const MEETINGS: &[(&str, &str)] = &[
    ("Stand-up", "Everybody knows what everybody does; nobody is stuck."),
    ("Plan the week", "Three things this week, one of them small."),
    ("Look back", "Keep the early demos, drop the late changes."),
    ("Budget round", "We stay within the plan if the next feature is a small one."),
    ("Bug triage", "Two must be fixed before release, five may wait, one is a feature."),
];

pub(super) const MISHAPS: &[&str] = &[
    "model call timed out after 60 s; the step is repeated",
    "tool sandbox ran out of disk space while installing packages",
    "rate limit of the model provider reached; waiting",
    "checkpoint could not be written: connection reset by peer",
    "the answer was not valid JSON; asking again",
];

pub(super) const FAILURES: &[&str] = &[
    "the approach does not hold: the data is not where we thought it was",
    "out of attempts: the test environment kept failing",
    "the result did not meet the acceptance notes",
];

/// Model, and its price in millionths of a dollar for a thousand tokens in and out.
pub(super) const MODELS: &[(&str, u64, u64)] =
    &[("atlas-large", 3_000, 12_000), ("atlas-small", 250, 1_000), ("quill-2", 800, 3_200)];
