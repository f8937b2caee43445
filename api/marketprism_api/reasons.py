"""The closed registry of reasons: why a message is a dead letter, a resource is refused, or a part waits.

One reason has one code, one text and one hint wherever it is met: log line, dead-letter header, metric label,
condition, CLI message. A code never changes its meaning: a new meaning gets a new code, and a code that is gone stays
unused.
"""

from __future__ import annotations

from dataclasses import dataclass

DOCS = "docs/reference/reasons.md"


@dataclass(frozen=True, slots=True)
class Reason:
    """`name` is CamelCase (conditions, labels), `code` is stable (`MP2101`), `text` and `hint` are for people."""

    code: str
    name: str
    text: str
    hint: str

    @property
    def docs(self) -> str:
        return f"{DOCS}#{self.code.lower()}"

    def __str__(self) -> str:
        return f"{self.code} {self.name}"


# MP1xxx: what a person wrote is refused.
INVALID_RESOURCE = Reason(
    "MP1001", "InvalidResource", "the resource is not valid", "correct the field that the message names"
)
UNKNOWN_CONSUMER = Reason(
    "MP1003", "UnknownConsumer", "the pipeline has no such consumer", "use a name from spec.consumers"
)
PORT_TAKEN = Reason("MP1004", "PortTaken", "another process listens on the port", "choose another --port, or stop it")

# MP2xxx: a message that can't be a row. Each is a dead letter with the message kept whole.
BAD_JSON = Reason(
    "MP2101", "BadJSON", "the payload is not one JSON object", "look at the publisher: `marketprism dlq show`"
)
NOT_AN_OBJECT = Reason(
    "MP2102", "NotAnObject", "the payload is JSON, but not an object", "publish one object per message"
)
EMPTY_PAYLOAD = Reason("MP2103", "EmptyPayload", "the message has no payload", "look at the publisher")
SUBJECT_MISMATCH = Reason(
    "MP2104", "SubjectMismatch", "subject and data_type disagree", "publish each type on its own subject"
)
MISSING_FIELD = Reason(
    "MP2201", "MissingField", "a field that the row needs is absent or null", "an absent value is never made a zero"
)
WRONG_TYPE = Reason("MP2202", "WrongType", "a field has a value of the wrong kind", "see the wire format of the type")
BAD_DECIMAL = Reason(
    "MP2203", "BadDecimal", "a decimal is not written as a finite decimal number", "no NaN, separators, blanks or units"
)
DECIMAL_OUT_OF_RANGE = Reason(
    "MP2204",
    "DecimalOutOfRange",
    "a decimal does not fit its column exactly",
    "it is not rounded: widen the column first",
)
NEGATIVE_OR_ZERO = Reason(
    "MP2205",
    "NotPositive",
    "a price or quantity is negative, or a price zero",
    "a market type with such prices: take it out of spec.messages.positivePrices",
)
BAD_TIME = Reason("MP2206", "BadTime", "a time is not in a known form", "UTC, an offset, or an epoch number")
TIME_OUT_OF_RANGE = Reason(
    "MP2207",
    "TimeOutOfRange",
    "a time is before 2009 or more than a day after the message's arrival",
    "look at the clock",
)
BAD_SIDE = Reason("MP2208", "BadSide", "the side is not buy, sell or unknown", "look at the publisher")
BAD_TEXT = Reason(
    "MP2209", "BadText", "a text is empty or too long", "exchange, market type and symbol have 1 to 128 characters"
)
BAD_LEVELS = Reason(
    "MP2210", "BadLevels", "an order-book side is not a list of [price, quantity] levels", "look at the publisher"
)
TOO_MANY_LEVELS = Reason(
    "MP2211",
    "TooManyLevels",
    "an order-book side has more levels than the pipeline takes",
    "raise spec.messages.maxLevels",
)
BAD_INTEGER = Reason(
    "MP2212", "BadInteger", "an id or count is not a whole number in its range", "look at the publisher"
)
BAD_BOOK_TYPE = Reason(
    "MP2213",
    "BadBookType",
    "update_type is no word that says whether an order book is full or an update",
    "publish snapshot or update; a venue's word that is missing: docs/howto/venues.md",
)
NOT_ONE_OF = Reason(
    "MP2214",
    "NotOneOf",
    "a text is none of those that the field may have",
    "look at the publisher, or add the word to the field's oneOf or values in spec.dataTypes",
)
SEVERAL_EVENTS = Reason(
    "MP2215",
    "SeveralEvents",
    "a message has several events where its data type takes the only one",
    "publish one event per message: a row is known by its message",
)
ROW_REFUSED = Reason(
    "MP2301",
    "RowRefused",
    "ClickHouse refused this row and took its neighbours",
    "the header Clickhouse-Code has its code",
)

# MP3xxx: NATS.
NATS_UNREACHABLE = Reason(
    "MP3001", "NATSUnreachable", "no NATS server answers", "check MARKETPRISM_NATS_URL, NATS_URL or spec.nats.url"
)
NATS_DENIED = Reason(
    "MP3002",
    "NATSDenied",
    "NATS refuses the credentials or a permission",
    "check spec.nats.authSecretRef and the account's rights",
)
STREAM_MISSING = Reason(
    "MP3003",
    "StreamMissing",
    "the JetStream stream does not exist",
    "create it, or set spec.nats.ensureStreams: IfMissing",
)
NO_JETSTREAM = Reason("MP3004", "NoJetStream", "the NATS server has JetStream switched off", "start it with -js")
STREAM_RECREATED = Reason(
    "MP3006",
    "StreamRecreated",
    "the stream was deleted and created again",
    "what the old one still held unread is gone",
)
STREAM_REGRESSED = Reason(
    "MP3007",
    "StreamRegressed",
    "a sequence came again with other content: the stream went backwards",
    "NATS lost acknowledged messages (power cut?); set sync_interval: always; the new content is kept beside the old",
)
MESSAGES_MISSED = Reason(
    "MP3008",
    "MessagesMissed",
    "the stream has discarded messages since the last that was read, perhaps unread ones",
    "raise its limits, or read faster; the range is lost",
)
DEAD_LETTERS_UNAVAILABLE = Reason(
    "MP3009",
    "DeadLettersUnavailable",
    "the dead-letter stream does not take messages",
    "bad messages wait, and rows go on: give the stream of spec.deadLetters.stream room, or take its subjects, "
    "marketprism.dlq.<stream>.>, from the stream that has them",
)
RECORD_UNAVAILABLE = Reason(
    "MP3010",
    "RecordUnavailable",
    "the record of a lane can't be read or written",
    "check the bucket of spec.nats.bucket and the account's rights on it; nothing is stored without it",
)
RECORD_IN_DOUBT = Reason(
    "MP3011",
    "RecordInDoubt",
    "the record of a lane is missing, older than it was, or its server was started anew",
    "nothing: what may be on its way is waited for and looked up, about a minute; new messages go on meanwhile",
)
STREAM_UNFIT = Reason(
    "MP3012",
    "StreamUnfit",
    "the stream deletes messages once somebody has read them, so nothing can be read twice; or two streams have the same messages",
    "source a workqueue or interest stream into one with retention limits, and name that one in spec.nats.streams; of two with the "
    "same messages name one",
)
NATS_LIMIT = Reason(
    "MP3013",
    "NATSLimit",
    "a limit of the NATS account, of a stream or of the servers is reached",
    "raise it; the message says which: consumers, streams, memory, storage or messages",
)
NATS_BUSY = Reason(
    "MP3014",
    "NATSBusy",
    "JetStream can't answer just now: a cluster without a leader, or a server that is being started",
    "nothing where it passes: it is tried again; else look at `nats server report jetstream`",
)
NATS_REFUSED = Reason(
    "MP3015",
    "NATSRefused",
    "JetStream refuses a request",
    "the message has its words and code (nats-server's errors.json)",
)
NATS_UNTRUSTED = Reason(
    "MP3016",
    "NATSUntrusted",
    "no TLS with the NATS server: one of the two does not trust the other, or the server does not encrypt",
    "check ca.crt, tls.crt and tls.key of the Secret, and that the server's certificate has the host of the URL",
)
FED_BY_ANOTHER = Reason(
    "MP3017",
    "FedByAnother",
    "another pipeline stores some of the same messages in the same table, by another subject: they would be stored twice",
    "give this one the same subject, or a table of its own; it goes on a minute after the other one has stopped",
)

# MP4xxx: ClickHouse.
CLICKHOUSE_UNREACHABLE = Reason(
    "MP4001", "ClickHouseUnreachable", "ClickHouse does not answer", "check CLICKHOUSE_HTTP_URL or spec.clickhouse.url"
)
CLICKHOUSE_DENIED = Reason(
    "MP4002",
    "ClickHouseDenied",
    "ClickHouse refuses the credentials or a right",
    "check spec.clickhouse.authSecretRef and the user's grants",
)
NOT_CLICKHOUSE = Reason(
    "MP4008",
    "NotClickHouse",
    "something in front of ClickHouse answers in its place, or changes what passes",
    "the message has its words: look at the proxy, gateway or load balancer at spec.clickhouse.url",
)
SEVERAL_SERVERS = Reason(
    "MP4010",
    "SeveralServers",
    "rows would be split: more than one ClickHouse server answers and no cluster is named, or more than one shard of it",
    "name the cluster in spec.clickhouse.cluster, or give the URL of one server, or of one shard; with sharding one for each",
)
REPLICAS_BEHIND = Reason(
    "MP4011",
    "ReplicasBehind",
    "too few replicas of a table have what was stored last",
    "bring back the replica that is away or behind; one that is gone for good: SYSTEM DROP REPLICA; see docs/howto/cluster.md",
)
SHARDS_CHANGED = Reason(
    "MP4012",
    "ShardsChanged",
    "the cluster's shards are not those over which the tables are spread, or one of them has no URL",
    "give replicas of every shard in spec.clickhouse.url, and a macro `shard` on each; see docs/howto/cluster.md",
)
VIEW_FAILED = Reason(
    "MP4009",
    "ViewFailed",
    "a materialized view on one of the tables fails; its rows are in the table, and not in the view",
    "mend or drop the view that the message names, then fill it: docs/howto/views.md",
)
INSERT_RETRIED = Reason(
    "MP4003", "InsertRetried", "ClickHouse refused an insert for now", "it is sent again, the same bytes"
)
INSERT_BLOCKED = Reason(
    "MP4004",
    "InsertBlocked",
    "ClickHouse refuses every insert into the table",
    "fix the table or server: nothing is lost, ingest waits",
)
BLOCK_SET_ASIDE = Reason(
    "MP4006",
    "BlockSetAside",
    "a block can't go on as it was cut: it waits until no attempt can be stored any more, then is looked up",
    "nothing: the lane goes on behind it; `marketprism lanes show` tells what it waits for",
)
ROWS_NOT_THERE = Reason(
    "MP4007",
    "RowsNotThere",
    "ClickHouse has answered for a block whose rows are not in the table",
    "it was killed between token and part, or lost its disk's cache; they are looked up and sent again",
)

# MP5xxx: schema.
SCHEMA_MISSING = Reason("MP5001", "SchemaMissing", "a table does not exist", "run `marketprism schema apply`")
SCHEMA_DRIFT = Reason(
    "MP5002", "SchemaDrift", "a table differs from what the pipeline needs", "run `marketprism schema plan`"
)
RECORDED_ELSEWHERE = Reason(
    "MP5004",
    "RecordedElsewhere",
    "another pipeline stores into the table, and keeps its records in another bucket: every message would be stored twice",
    "set spec.nats.bucket to the one that the message names; where nobody uses that any more: ALTER TABLE … COMMENT COLUMN _stream '', "
    "then `marketprism schema apply`",
)
NO_DEDUP_WINDOW = Reason(
    "MP5003",
    "NoDedupWindow",
    "a table forgets insert tokens at once, so a retry could double rows",
    "run `marketprism schema apply`",
)

# MP6xxx: the state of a data type, or of a process.
RUNNING = Reason("MP6001", "Running", "messages are stored as they come", "")
DEAD_LETTER_FLOOD = Reason(
    "MP6002",
    "DeadLetterFlood",
    "too many of a venue's last messages are bad: they are held back for minutes, then dead letters; all else is stored",
    "look at `marketprism dlq list`, fix the publisher, or raise spec.deadLetters.maxRatio",
)
STOPPING = Reason("MP6003", "Stopping", "what is held is stored, then the process ends", "")
PROCESS_ENDED = Reason(
    "MP6004",
    "ProcessEnded",
    "one of several processes has ended unasked, and is started again",
    "its last lines in the log say why; SIGKILL is mostly the memory's limit: raise it, or run fewer --processes",
)

# MP7xxx: what the operator finds and does.
VALID = Reason("MP7001", "Valid", "the spec is valid", "")
WAITING = Reason(
    "MP7002", "Waiting", "an earlier step is not done, or nothing is known yet", "look at the other conditions"
)
SECRET_MISSING = Reason(
    "MP7003", "SecretMissing", "a Secret that is referred to does not exist", "create it in the resource's namespace"
)
CONFIG_MAP_MISSING = Reason(
    "MP7004",
    "ConfigMapMissing",
    "a ConfigMap that is referred to does not exist",
    "create it in the resource's namespace",
)
PIPELINE_MISSING = Reason(
    "MP7005", "PipelineMissing", "the policy's pipeline does not exist", "create it, or correct spec.pipelineRef"
)
SCHEMA_RUNNING = Reason("MP7006", "SchemaRunning", "the schema Job is at work", "")
SCHEMA_DONE = Reason("MP7007", "SchemaDone", "the tables are as the pipeline needs them", "")
SCHEMA_IGNORED = Reason("MP7008", "SchemaIgnored", "spec.schema.mode is Ignore: the tables are the user's own", "")
SCHEMA_FAILED = Reason(
    "MP7009", "SchemaFailed", "the schema Job failed", "fix what the message says; it is retried automatically"
)
REACHABLE = Reason("MP7010", "Reachable", "the server answers where the Pods run", "")
STREAMS_FOUND = Reason("MP7011", "StreamsFound", "the streams are there, and the records of their lanes", "")
AVAILABLE = Reason("MP7012", "Available", "every Pod that is wanted is ready", "")
ROLLING_OUT = Reason("MP7013", "RollingOut", "Pods are started or replaced", "")
IMAGE_PULL_FAILED = Reason(
    "MP7014", "ImagePullFailed", "the image can't be pulled", "check the image's name and the pull secrets"
)
CRASH_LOOP = Reason("MP7015", "CrashLoop", "a container keeps crashing", "look at `kubectl logs --previous`")
OUT_OF_MEMORY = Reason(
    "MP7016", "OutOfMemory", "a container used more memory than its limit", "raise resources.limits.memory"
)
UNSCHEDULABLE = Reason(
    "MP7017", "Unschedulable", "no node can take a Pod", "free or add what it asks for, or lower resources.requests"
)
POD_NOT_STARTING = Reason("MP7018", "PodNotStarting", "a Pod can't start", "fix what the message says")
POD_REFUSED = Reason(
    "MP7019", "PodRefused", "the cluster refuses to make a Pod", "check quotas, admission policies and podTemplate"
)
PAUSED = Reason(
    "MP7052", "Paused", "the operator leaves the resource alone", "remove the annotation storage.marketprism.io/pause"
)
DEADLINE_EXCEEDED = Reason(
    "MP7060",
    "ProgressDeadlineExceeded",
    "it has not been Ready for longer than spec.progressDeadline",
    "mend the cause",
)
SUSPENDED = Reason("MP7020", "Suspended", "spec.suspend is true", "set it to false to go on")
APPLY_REFUSED = Reason(
    "MP7021", "ApplyRefused", "the API server refuses a child", "correct podTemplate, or the operator's rights"
)
STORED_BY_ANOTHER = Reason(
    "MP7053",
    "StoredByAnother",
    "an older pipeline stores the same messages in the same tables",
    "remove one of the two, or give this one another hotDatabase, or streams of its own; it goes on when the other is suspended or gone",
)
SCHEDULED = Reason("MP7022", "Scheduled", "runs are made as the policy says", "")
RUN_SUCCEEDED = Reason("MP7023", "RunSucceeded", "the last run moved what was due", "")
RUN_FAILED = Reason("MP7024", "RunFailed", "the last run failed", "fix what the message says; the next run goes on")
READY = Reason("MP7025", "Ready", "all of it works", "")
DRIFT_CORRECTED = Reason(
    "MP7026", "DriftCorrected", "a child was edited by somebody else and is put back", "edit the parent"
)
CHILD_CREATED = Reason("MP7027", "ChildCreated", "a child was created", "")
CHILD_CHANGED = Reason("MP7028", "ChildChanged", "a child follows a change of its parent", "")
CHILD_REMOVED = Reason("MP7029", "ChildRemoved", "a child that is no longer wanted was deleted", "")
SCALED = Reason("MP7050", "Scaled", "a consumer has as many Pods as its lag asks for", "")
AT_MOST_PODS = Reason(
    "MP7051",
    "AtMostPods",
    "a consumer has as many Pods as autoscale allows, and rows come late nevertheless",
    "raise autoscale.max for a backlog; a live feed is one Pod's work: give a busy data type a consumer of its own",
)
RUN_STARTED = Reason("MP7031", "RunStarted", "a run was asked for by annotation", "")
RECONCILED = Reason("MP7035", "Reconciled", "every step of the last reconcile was taken", "")
RECONCILE_FAILED = Reason(
    "MP7036",
    "ReconcileFailed",
    "a step of the operator's own failed; what the other conditions say may be old",
    "it is retried with growing pauses; look at the operator's log and at the API server, and report what looks like a bug",
)
DATA_FINE = Reason("MP7032", "DataFine", "the last validation found nothing wrong", "")
DATA_WRONG = Reason(
    "MP7033",
    "DataWrong",
    "the last validation found faults",
    "the Job's log has the report: `kubectl logs job/<name>`; or run `marketprism validate`",
)
VALIDATION_FAILED = Reason(
    "MP7034", "ValidationFailed", "the last validation could not check", "fix what the message says"
)

# MP8xxx: what validation finds in stored data.
TRADES_MISSING = Reason(
    "MP8001",
    "TradesMissing",
    "numbers are missing in a venue's sequence of trades",
    "`marketprism audit` shows whether they were published; `marketprism heal` replays them, or takes them from the venue's"
    " archive; look at the collector",
)
TRADE_REPEATED = Reason(
    "MP8002",
    "TradeRepeated",
    "a trade's number occurs more than once",
    "look whether two publishers send the same feed; each message is stored once",
)
BOOK_CHAIN_BROKEN = Reason(
    "MP8003",
    "BookChainBroken",
    "an order book's update does not follow the one before",
    "updates are missing: books after it are wrong until the next full one",
)
BOOK_CROSSED = Reason(
    "MP8004", "BookCrossed", "the best bid is not below the best ask", "look at the collector: is it joining two feeds?"
)
BOOK_UNSORTED = Reason("MP8005", "BookUnsorted", "an order book's levels are not best first", "look at the collector")
BOOK_NOT_FULL = Reason(
    "MP8019",
    "BookNotFull",
    "what calls itself a full book takes levels away, or has less than a tenth of the usual levels",
    "look at the collector: updates that are published as snapshots wipe the book in `book_at`",
)
PRICE_JUMP = Reason(
    "MP8006",
    "PriceJump",
    "a price is far from its neighbours'",
    "compare it with the venue's; spec.validation.limits sets how far is far",
)
OUT_OF_BOUNDS = Reason(
    "MP8007",
    "OutOfBounds",
    "a value is not positive where it should be, or larger than anything plausible",
    "compare it with the venue's; spec.validation.limits sets the bounds",
)
SIDE_UNKNOWN = Reason(
    "MP8008", "SideUnknown", "too many rows do not say whether they are a buy or a sell", "look at the collector"
)
SILENCE = Reason(
    "MP8009",
    "Silence",
    "a symbol was silent for much longer than usual",
    "look at the collector's connection at that time; `marketprism audit` shows whether anything was published",
)
SYMBOL_DEAD = Reason(
    "MP8010",
    "SymbolDead",
    "a symbol that had rows has none any more",
    "is it still listed, still subscribed, still under that name?",
)
NO_ROWS = Reason(
    "MP8011", "NoRows", "a data type has no rows at all", "look at the collector and at `marketprism audit`"
)
CADENCE_MISSED = Reason(
    "MP8012",
    "CadenceMissed",
    "a bucket or funding interval has no row",
    "the source publishes one row for each: look at the collector at that time",
)
BUCKET_REPEATED = Reason(
    "MP8013",
    "BucketRepeated",
    "one bucket was published far more often than usual",
    "harmless for queries that read the bucket views; look at the collector",
)
BUCKET_REVISED = Reason(
    "MP8014",
    "BucketRevised",
    "one bucket was published with different values",
    "the bucket views show the last; compare them with the venue's",
)
CLOCK_AHEAD = Reason(
    "MP8015",
    "ClockAhead",
    "events are later than their arrival: a clock is wrong",
    "look at the collector's clock, then at the venue's",
)
ARRIVED_LATE = Reason(
    "MP8016",
    "ArrivedLate",
    "events arrived long after they happened",
    "look at the collector's connection and load, and whether it fills gaps afterwards",
)
TIERS_DIFFER = Reason(
    "MP8017",
    "TiersDiffer",
    "a row has other values in cold than in hot",
    "nothing is deleted while they differ: compare the two, delete the wrong one",
)
ROW_DOUBLED = Reason(
    "MP8018",
    "RowDoubled",
    "one message has more than one row",
    "`marketprism audit` and `marketprism tiers` name them; was something inserted by hand?",
)
SOMETIMES_ABSENT = Reason(
    "MP8020",
    "SometimesAbsent",
    "a field that most rows of a series have is absent in some",
    "look at the collector; a venue may have renamed the field: add its new name to from",
)

# MP9xxx: why rows stay in hot. Nothing that is not proven to be in cold is ever deleted.
MIGRATION_BUSY = Reason(
    "MP9001",
    "MigrationBusy",
    "another run lives, or a statement of one still runs",
    "wait for it; the message says where it is",
)
LEASE_LOST = Reason(
    "MP9002",
    "LeaseLost",
    "this run was too slow to renew its lease, and another run may have begun",
    "the next run goes on; a longer --lease if it happens again",
)
TTL_BEFORE_MOVE = Reason(
    "MP9003",
    "TtlBeforeMove",
    "a TTL on hot deletes rows before they are old enough to move",
    "lower olderThan, or raise or remove the TTL (schema.hotRetention)",
)
IDENTITY_CONFLICT = Reason(
    "MP9004",
    "IdentityConflict",
    "hot and cold hold different rows under one identity (_stream, _seq)",
    "compare the two, delete the wrong one",
)
COLD_DOUBLES = Reason(
    "MP9005",
    "ColdDoubles",
    "cold has rows twice, and its ClickHouse can't delete one of two equal rows (25.8 can)",
    "update cold's server, or delete them by hand: `marketprism tiers` counts them",
)
SLICE_UNSETTLED = Reason(
    "MP9006", "SliceUnsettled", "rows changed again and again while they were worked on", "the next run tries again"
)
SERVER_TOO_OLD = Reason(
    "MP9007", "ServerTooOld", "hot's ClickHouse can't delete a part of an hour (24.5 can)", "update hot's server"
)
MIGRATION_MEMORY = Reason(
    "MP9008",
    "MigrationMemory",
    "ClickHouse has too little memory, even for a small slice",
    "raise its memory limits, or lower the batch limit",
)
MIGRATION_PARTS = Reason(
    "MP9009",
    "MigrationParts",
    "cold has too many parts and refuses inserts",
    "wait for its merges, or raise parts_to_throw_insert",
)
TIER_TAKES_NO_WRITES = Reason(
    "MP9010", "TierTakesNoWrites", "a tier is read-only, or its disk is full", "free its disk, or make it writable"
)
MIGRATION_REFUSED = Reason(
    "MP9011",
    "MigrationRefused",
    "ClickHouse refused a statement of the migration",
    "the message has its code and words; the next run tries again",
)
MIGRATION_UNPINNED = Reason(
    "MP9012",
    "MigrationUnpinned",
    "a migration sees parts, which are one replica's own, and more than one answers",
    "list the replicas' own URLs in spec.clickhouse.url, or give the migration one of them as CLICKHOUSE_HTTP_URL",
)

ALL: dict[str, Reason] = {reason.code: reason for reason in list(globals().values()) if isinstance(reason, Reason)}
BY_NAME: dict[str, Reason] = {reason.name: reason for reason in ALL.values()}
