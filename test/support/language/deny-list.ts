/** A word or construction that the project does not use, and the better one. */
export interface DeniedWord {
  pattern: RegExp;
  better: string;
  /** A sentence that the pattern must report. */
  sample: string;
}

const word = (source: string) => new RegExp(`\\b(?:${source})\\b`, "i");

/**
 * Words of prose: comments, texts, titles and documents. STYLE.md, Language, states the principle.
 */
export const deniedWords: readonly DeniedWord[] = [
  {
    pattern: word("aftermath"),
    better: "effects, after commit",
    sample: "It merges each aftermath.",
  },
  {
    pattern: word("doorbells?|rings?|rung"),
    better: "enqueue, wake",
    sample: "It rings for a job.",
  },
  {
    pattern: word("carr(?:y|ies|ied|ying)(?: \\w+)? out"),
    better: "run, apply, dispatch",
    sample: "It carries them out.",
  },
  { pattern: word("lastly"), better: "finally, or name the order", sample: "Lastly it commits." },
  { pattern: word("heed(?:s|ed)?"), better: "respect, apply", sample: "It heeds the tags." },
  { pattern: word("standing"), better: "status, current", sample: "The standing of a set." },
  {
    pattern: word("tells?|told|telling"),
    better: "report, notify, show, state, distinguish",
    sample: "The agent told it.",
  },
  { pattern: word("anew"), better: "again, or name the new thing", sample: "It starts anew." },
  { pattern: word("rooms?"), better: "capacity, space, folder", sample: "The host has room." },
  { pattern: word("away"), better: "unreachable, absent, off the host", sample: "Redis is away." },
  { pattern: word("gone"), better: "deleted, exited, missing", sample: "The volume is gone." },
  {
    pattern: word("(?:looked|looks|looking) (?:at|after)"),
    better: "inspect, read, check",
    sample: "Volumes are looked at each minute.",
  },
  {
    pattern: word("ask(?:ed|s|ing)? for"),
    better: "request, require",
    sample: "Its purge was asked for.",
  },
  {
    pattern: word("heard(?: of| from)?|deaf"),
    better: "received, last seen, subscribed",
    sample: "Nothing was heard of it.",
  },
  {
    pattern: word("nobody|somebody|anybody|whoever"),
    better: "name the actor",
    sample: "So that nobody waits.",
  },
  {
    pattern: word("by (?:itself|themselves)"),
    better: "automatically, alone",
    sample: "It ends by itself.",
  },
  { pattern: word("under way"), better: "in progress, in flight", sample: "A call is under way." },
  {
    pattern: word("br(?:oke|oken|eaks?) off"),
    better: "stop, abort, disconnect",
    sample: "The job worker broke off.",
  },
  {
    pattern: word("h[eo]lds? up|holding up"),
    better: "block, delay",
    sample: "It holds up the rest.",
  },
  {
    pattern: word("(?:exists?|used|enrolled) already"),
    better: "already exists, has already been used",
    sample: "The service exists already.",
  },
  {
    pattern: word("repeat the request"),
    better: "retry the request",
    sample: "Repeat the request later.",
  },
  {
    pattern: word("each (?:\\d+|VALUE) (?:s|ms|seconds|minutes|hours)"),
    better: "every 60 s",
    sample: "It removes one set each 60 s.",
  },
  { pattern: /\d %/, better: "a number with its sign: 80%", sample: "The disk is at 80 %." },
  {
    pattern: /(?<!\b(?:there|where) )\b(?:is|are) no (?!longer\b)/i,
    better: "is not a, has no",
    sample: "A longer line is no event.",
  },
  {
    pattern: word("another \\w+ than"),
    better: "a different one than",
    sample: "The host has another generation than the caller.",
  },
  {
    pattern: /^Gives\b(?! up\b)/,
    better: "Returns, or the verb of the effect",
    sample: "Gives the number of sets.",
  },
  {
    pattern: word("persons?"),
    better: "user, operator",
    sample: "A person restarts the set.",
  },
  { pattern: word("made"), better: "created, built", sample: "The container was made." },
  {
    pattern: word("any more|for ?ever"),
    better: "no longer, indefinitely",
    sample: "The set does not exist any more.",
  },
  {
    pattern: word("at once"),
    better: "immediately, concurrently, together",
    sample: "The stop ends it at once.",
  },
  { pattern: word("former"), better: "previous", sample: "The former token expires." },
  {
    pattern: word("also (?:if|when|while|after|during|for)"),
    better: "even if, including",
    sample: "The run ends also if it fails.",
  },
  {
    pattern:
      /, as (?:it|its|they|their|no|nothing|all|some|only)\b(?! (?:does|do|did|is|are|would)\b)/i,
    better: "because, or two sentences",
    sample: "The row is locked, as its owner changes it.",
  },
  {
    pattern: /^(?:Undefined|Null|True|False): /,
    better: "Returns undefined if, Null if",
    sample: "Undefined: the host is unknown.",
  },
  { pattern: word("kept"), better: "retained, cached, stored", sample: "The answer is kept." },
  {
    pattern: word("given for lost|for ever and ever|a round trip less|is as bad"),
    better: "plain English",
    sample: "A host that is given for lost.",
  },
  {
    pattern: word("enrols?|enrolments?"),
    better: "enroll, enrolled, enrollment",
    sample: "A machine enrols.",
  },
  {
    pattern: word(
      "behaviours?|catalogues?|cancelled|cancelling|signalled|signalling|labelled|neighbours?|colours?|favours?|honours?|(?:authori|initiali|normali|recogni|organi|seriali|stabili|optimi|summari|minimi|maximi|prioriti|synchroni)s(?:e|es|ed|ing|ation)",
    ),
    better: "the American spelling (behavior, authorize)",
    sample: "The behaviour of a set.",
  },
];

/**
 * Words inside of identifiers and file names, in lower case; `TokenCache` has the words token and
 * cache.
 */
export const deniedIdentifierWords: ReadonlyMap<string, string> = new Map([
  ["aftermath", "effects"],
  ["doorbell", "jobQueue"],
  ["ring", "enqueue"],
  ["rings", "jobs"],
  ["rung", "enqueued"],
  ["carry out", "run"],
  ["under way", "inFlight"],
  ["held back", "buffered"],
  ["heed", "apply"],
  ["lastly", "commitWith"],
  ["standing", "status"],
  ["tell", "report"],
  ["tells", "reports"],
  ["told", "reported"],
  ["anew", "again"],
  ["room", "capacity"],
  ["rooms", "capacities"],
  ["away", "unreachable"],
  ["gone", "deleted"],
  ["kept", "retained"],
  ["heard", "received"],
  ["hearing", "subscribed"],
  ["deaf", "unsubscribed"],
  ["nobody", "none"],
  ["somebody", "some"],
  ["enrol", "enroll"],
  ["enrols", "enrolls"],
  ["enrolment", "enrollment"],
  ["authorise", "authorize"],
  ["behaviour", "behavior"],
]);
