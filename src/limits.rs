//! Every bound of the service, with its unit and the reason for the number. Nothing here is a setting.

use std::time::Duration;

/// Largest body of a regional webhook, in bytes. The registry's own bodies are below 2 KiB; the rest is room for members to come.
pub const WEBHOOK_BYTES_MAX: usize = 256 * 1024;

/// Largest body of a queue-trigger call, in bytes. A 48 KiB message text is escaped twice in the host's envelope and copied once more.
pub const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;

/// Open files and connections this process asks the system for: more than the
/// web server takes on a machine of two cores. Callers that only hold connections open must not keep the registry out.
pub const DESCRIPTORS_MAX: u64 = 65_536;

/// Connections that may wait to be taken. A caller beyond them tries again after a second, then after two more, and the
/// registry gives up after five.
pub const BACKLOG: i32 = 4096;

/// A body above this is large, in bytes: many times what the registry sends.
pub const LARGE_BODY_BYTES: usize = 16 * 1024;

/// Most large bodies in memory at the same time: with the copies made of each, some tens of MiB. One more is answered with 503
/// at once; waiting would let those who hold theirs back hold up the others.
pub const LARGE_BODIES_MAX: usize = 64;

/// Senders of wrong keys that are remembered, so that each guess costs them time: some tens of bytes each.
pub const WRONG_SENDERS_MAX: usize = 1024;

/// An answer above this is large, in bytes. It is handed to the web server in pieces of this size, as its caller reads.
pub const ANSWER_PIECE_BYTES: usize = 16 * 1024;

/// Most of all large answers together that their callers have not read yet, in KiB: 32 status documents of the largest pushes.
/// One more is answered with 503 at once.
pub const UNSENT_KIB_MAX: u32 = 8 * 1024;

/// How long the kernel keeps a connection whose caller takes nothing of what is sent to it.
pub const UNREAD_MAX: Duration = Duration::from_secs(10);

/// Operators' calls that are worked on at the same time, each with its rows in memory; more wait.
pub const OPERATOR_CALLS_MAX: usize = 8;

/// Most pushes that a store reads for one page of a list, and most entries of an index that it passes over for it: a page that
/// few pushes belong to ends early, and the next one goes on.
pub const LIST_LOOKED_AT_MAX: usize = 1000;
/// See [`LIST_LOOKED_AT_MAX`].
pub const LIST_PASSED_OVER_MAX: usize = 10_000;

/// How long a push may be overdue and still be listed as one that owes something, whether or not upkeep has met it: every push is
/// met within a quarter of an hour.
pub const LIST_OVERDUE: Duration = Duration::from_secs(15 * 60);

/// Most pushes that a summary of the regions counts, the newest; as many reads as it costs at most on Azure Storage.
pub const REGIONS_COUNTED_MAX: usize = 1000;

/// A region that misses so many pushes of a span to this day is incomplete, of however many: a webhook may get lost on its way, but
/// so many in a day have one cause.
pub const REGION_MISSES: usize = 5;

/// Where there are few pushes, a region is incomplete that misses one in so many. One old miss among hundreds wakes nobody.
pub const REGION_MISSES_ONE_IN: usize = 20;

/// How long a summary of the regions is good for whoever asks for the same: a page that is open asks every few seconds.
pub const REGIONS_KEPT: Duration = Duration::from_secs(30);
/// See [`REGIONS_KEPT`].
pub const REGIONS_KEPT_LEAST: Duration = Duration::from_secs(3);

/// Longest wait of a call for a push to settle: the platform's front end ends every call after 230 s.
pub const WAIT_MAX: Duration = Duration::from_secs(200);

/// Calls that wait for a push to settle at the same time; one more is told to come again. Each costs a connection and some KiB.
pub const WAITERS_MAX: usize = 1000;

/// How far a search for an image goes back when nothing is said.
pub const IMAGE_SEARCHED_BACK: Duration = Duration::from_secs(24 * 3600);

/// How soon a call that waits looks at the row for what other processes did, and at most how much later each time.
pub const WAIT_LOOK_MIN: Duration = Duration::from_millis(500);
/// See [`WAIT_LOOK_MIN`].
pub const WAIT_LOOK_MAX: Duration = Duration::from_secs(5);

/// Most of the rows of one page of a list, in bytes of their payloads, and one row more.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Longest `id` of a webhook, in bytes; the registry's have 36. A row keeps one for each region and round, and all of
/// them together with the payload must fit an entity of Table Storage (1 MiB as UTF-16), however they are escaped.
pub const ID_BYTES_MAX: usize = 128;

/// Longest repository, tag, digest, action or host of a webhook, in bytes; eight times what the OCI rules allow for a name.
pub const MEMBER_BYTES_MAX: usize = 2048;

/// Longest body for GitHub's `repository_dispatch`, in bytes; it takes as many characters. A hundred regions with the longest
/// names the OCI rules allow stay below a third of it.
pub const GITHUB_BYTES_MAX: usize = 65_535;

/// Longest image in a query or an argument, in bytes: every part as long as a webhook may name it.
pub const IMAGE_BYTES_MAX: usize = 4 * MEMBER_BYTES_MAX;

/// Most regions one push can wait for. Azure has about 70; the row holds one short entry for each.
pub const REGIONS_MAX: usize = 100;

/// Longest region name in bytes; the longest of Azure's is below 25.
pub const REGION_BYTES_MAX: usize = 64;

/// Most targets one service notifies; each has an entry in every settled row.
pub const TARGETS_MAX: usize = 32;

/// Longest name of a target or a rule, in bytes; it stands in rows, log lines and URLs.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest name of an app, in bytes: a host name, as long as DNS has them.
pub const APP_BYTES_MAX: usize = 256;

/// Longest time `serve` goes on accepting after SIGTERM: far more than any load balancer needs.
pub const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// Longest URL of a receiver in bytes. Those of Power Platform workflows, the longest in use, are below 500.
pub const URL_BYTES_MAX: usize = 2048;

/// Most headers of its own that one target is sent.
pub const TARGET_HEADERS_MAX: usize = 20;

/// Longest value of such a header, in bytes: room for a bearer token.
pub const TARGET_HEADER_BYTES_MAX: usize = 4096;

/// Longest repository or tag pattern, in bytes; as long as a repository's name may be under the OCI rules.
pub const PATTERN_BYTES_MAX: usize = 255;

/// Most patterns without braces that one pattern may stand for: `{a,b}/{c,d}` stands for four. The matcher tries them one
/// after another at every place a `*` can end, so that ten groups with stars in them could take many seconds of one arrival.
pub const PATTERN_READINGS_MAX: usize = 64;

/// Most rules. Each is tried, in order, for the first arrival of a push.
pub const RULES_MAX: usize = 100;

/// Most waits of `WebhookRetrySchedule`, and the longest one: a message may be hidden for so long without chaining.
pub const RETRY_WAITS_MAX: usize = 20;
/// See [`RETRY_WAITS_MAX`].
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Shortest `WebhookTimeout`. The queue's clock has whole seconds, so a shorter wait could not be kept.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Longest `WebhookTimeout`: 366 days, far beyond any replication, so that instants stay far from the ends of the calendar.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A configured time-out above this is warned about at start: `24:00:00` is 24 *days* in .NET's notation.
pub const TIMEOUT_SUSPICIOUS: Duration = Duration::from_secs(24 * 3600);

/// Time ImagePush leaves the row for itself; then the arrival is put onto the queue as well, and whichever is durable first is answered.
pub const ARRIVAL_ROW_ALONE: Duration = Duration::from_millis(1200);

/// Time ImagePush may take in all. The registry gives up after 5 s and never tries again; the rest is for the ways there and back.
pub const ARRIVAL_BUDGET: Duration = Duration::from_millis(4300);

/// Time one TimeoutCheck call may take. The promise is 30 s; the rest is for the host's own hops.
pub const TIMER_CALL_BUDGET: Duration = Duration::from_secs(25);

/// Time a status, purge or listing call may take.
pub const OPERATOR_CALL_BUDGET: Duration = Duration::from_secs(10);

/// Time to record the result of an attempt. The lease is then nearly over and the backstop timer takes it from there.
pub const RESULT_BUDGET: Duration = Duration::from_secs(15);

/// Most re-reads after a lost compare-and-swap, in one call. Each loss is somebody else's progress, so regions plus targets bound the real number.
pub const CONFLICT_RETRIES_MAX: u32 = 200;

/// How long a deliverer may hold an outbox entry. Longer than one attempt plus the recording of its result, with seconds to spare for skewed clocks.
pub const LEASE: Duration = Duration::from_secs(30);

/// An attempt is not begun with less than this left of its lease: its time-out plus seconds of clock skew.
pub const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// Time-out of one attempt at a notification, reply included.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts of one process at the same time; more wait, and give up in favour of their timers when their lease runs out.
pub const DELIVERIES_AT_ONCE_MAX: usize = 64;

/// Most attempts at one target at the same time. Each target has places of its own, so a slow one takes none from the others.
pub const DELIVERIES_PER_TARGET_MAX: usize = 16;

/// Most notifications that wait for a place at one target, each with its row in memory: a backlog against a receiver that hangs
/// would otherwise be there as a whole. One more is tried later. Far above what waits at a receiver that answers.
pub const DELIVERIES_WAITING_MAX: usize = 2048;

/// Most that all notifications which wait for a place have in memory together, in bytes of their rows' payloads. One more is
/// tried later.
pub const DELIVERIES_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a connection to a receiver is kept for the next notification. Shorter than common servers keep theirs (Node: 5 s),
/// so that an attempt does not meet one that is just being closed.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(4);

/// How long the rest of a reply is awaited once a 2xx is in: only to use the connection again, the answer is known.
pub const REPLY_REST_WAIT: Duration = Duration::from_millis(500);

/// Most of a receiver's reply that is read, in bytes. Only the status and a short reason are of use.
pub const REPLY_BYTES_MAX: usize = 16 * 1024;

/// Longest reason of a failure that is kept in the row, in bytes.
pub const REASON_BYTES_MAX: usize = 300;

/// Failed attempts of one notification that are kept for people to see, and the most that is kept of the reason of each, in
/// bytes: all notifications of a push together stay far below an entity of Table Storage.
pub const FAILED_KEPT: usize = 12;
/// See [`FAILED_KEPT`].
pub const FAILED_REASON_BYTES_MAX: usize = 60;

/// Most claims of one notification that end without a result: a killed process each. This many mean that something always kills it.
pub const LAPSES_MAX: u32 = 100;

/// Longest wait honoured from a receiver's `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A durable timer that comes early by less than this waits in the call: the queue's delays are whole seconds, rounded down.
pub const EARLY_TIMER_WAIT: Duration = Duration::from_millis(1100);

/// Longest delay of one queue message (Storage Queue: 7 days); longer waits are chained.
pub const TIMER_DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// A timer that is newer than its row, or whose row does not exist, looks once more after this long: a write may land after the
/// call that made it gave up.
pub const SECOND_LOOK: Duration = Duration::from_secs(15);

/// Largest text of a queue message in bytes before base64 (Storage Queue: 64 KiB after it).
pub const MESSAGE_BYTES_MAX: usize = 48 * 1024;

/// How long a process that has just started leaves its storage alone: setting up a client for it takes more time than all that
/// comes before the first answer, which the Functions host waits for. A call that comes sooner does not wait for this.
pub const START_DELAY: Duration = Duration::from_millis(100);

/// Bounds of the times that the settings of OpenTelemetry give.
pub const OTLP_TIME_MIN: Duration = Duration::from_millis(10);
/// See [`OTLP_TIME_MIN`].
pub const OTLP_TIME_MAX: Duration = Duration::from_secs(3600);

/// Spans that wait to be sent; more are lost, and counted. Some hundred bytes each.
pub const SPANS_WAITING_MAX: usize = 2048;

/// So many spans are sent without waiting for more.
pub const SPANS_AT_ONCE_MAX: usize = 512;

/// Pushes that owe something and are counted one by one where no single process knows all: some hundred bytes each.
pub const COUNTED_PUSHES_MAX: usize = 10_000;

/// Rows kept in memory after a write, and the largest payload such a row may carry, in bytes: at most a few MiB together.
pub const REMEMBERED_ROWS_MAX: usize = 1024;
/// See [`REMEMBERED_ROWS_MAX`].
pub const REMEMBERED_PAYLOAD_BYTES_MAX: usize = 4 * 1024;

/// Most operations the embedded store commits together. Enough that the disk's wait is shared; few enough that the batch stays short.
pub const EMBEDDED_BATCH_MAX: usize = 512;

/// Operations that may wait for each thread of the embedded store; a further caller waits for room.
pub const EMBEDDED_QUEUE_MAX: usize = 1024;

/// Log pages (4 KiB each) after which the embedded store moves them into its file: a log of about 16 MiB.
pub const EMBEDDED_LOG_PAGES: u32 = 4096;

/// How long after a write whose outcome is not known a process leaves a push alone that will come again by itself.
pub const DOUBT: Duration = Duration::from_secs(10);

/// How long after a request about a push whose outcome is not known its timers are no farther off than [`SHORT_TIMER`]: one
/// that nobody knows to be there cannot be deleted, and lasts until it fires.
pub const DOUBT_LINGERS: Duration = Duration::from_secs(15 * 60);

/// See [`DOUBT_LINGERS`]; also how long the timer lasts at most that upkeep arms in place of one that may be lost.
pub const SHORT_TIMER: Duration = Duration::from_secs(2 * 60);

/// Shortest delay the queue is asked for: a timer with none could fire before the row that it is for.
pub const TIMER_DELAY_MIN: Duration = Duration::from_secs(1);

/// How long what was spilled may take to be applied once storage is back: the wait of one that failed
/// (30 s), a poll of the queue and some seconds to work. A deadline that is handled late waits so long.
pub const RELEASE_PERIOD: Duration = Duration::from_secs(40);

/// No push times out this long after an arrival was last put onto the queue: its wait, and the lease of one whose
/// process died while it applied it (75 s in `serve`; a handler that dies gives its messages back at once, only a host that
/// does keeps them for minutes).
pub const SPILL_NOTED: Duration = Duration::from_secs(120);

/// How long a message that fails is given back as it is, every half a minute. Later it is put back, for a quarter of the time
/// that it has failed for.
pub const GIVEN_BACK: Duration = Duration::from_secs(900);

/// Longest wait before a message that has failed for long is tried again.
pub const PUT_BACK_WAIT_MAX: Duration = Duration::from_secs(3600);

/// A deadline that is handled later than this was held up: by storage that was away, or an app that slept.
pub const DEADLINE_LATE: Duration = Duration::from_secs(10);

/// How long the last trace of a purged push stays, and how long after its last change and its last repeat a push may not go
/// without one: many times what any call takes that may be opening its next round.
pub const PURGED_KEPT: Duration = Duration::from_secs(3600);

/// Shortest `WebhookRetention` that is not 0: for so long a push that was removed leaves a trace all the same, see
/// [`PURGED_KEPT`], so that nothing would be gone any sooner.
pub const RETENTION_MIN: Duration = PURGED_KEPT;

/// Longest `WebhookRetention`: ten years, so that instants stay far from the ends of the calendar. For ever is 0.
pub const RETENTION_MAX: Duration = Duration::from_secs(3660 * 24 * 3600);

/// Most of the oldest pushes that are looked at together to remove those which owe nothing: as many entries as Table Storage
/// takes out of the time index in one request.
pub const REMOVED_AT_ONCE_MAX: usize = 100;

/// Most pushes that one call removes: with 16 at the same time, and two requests each of some 10 ms, a second or two.
pub const REMOVED_PER_CALL_MAX: usize = 1000;

/// Time after which one call begins no further look at what is to be removed: most of an operator's call, and less than half
/// of a timer's.
pub const REMOVAL_BUDGET: Duration = Duration::from_secs(7);

/// Most pushes that the embedded store removes in one commit: a millisecond's work, for which an arrival behind it waits.
pub const EMBEDDED_REMOVED_MAX: usize = 16;

/// How often the embedded store is looked through for what is too old. Nobody notices whether a push of 30 days goes five
/// minutes later.
pub const REMOVAL_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Pause after each [`REMOVED_AT_ONCE_MAX`] pushes that were looked at to remove them: arrivals go first.
pub const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// How often what stayed although it is old enough, since it owes something or is another app's, is looked at again.
pub const REMOVAL_PASS: Duration = Duration::from_secs(24 * 3600);

/// An instant further in the future than this was not written by a clock that can be trusted.
pub const FUTURE_MAX: Duration = Duration::from_secs(300);

/// How often upkeep walks the time index. With its own lateness, nothing waits for it longer than a quarter of an hour.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(14 * 60);

/// Most entries of the time index that one call of upkeep looks at; more, and it goes on in a call of its own.
pub const UPKEEP_ENTRIES_MAX: usize = 1000;

/// Most pushes that still owe something which upkeep remembers from one walk to the next, so that it need not read the others
/// again. With more, it reads from the oldest of the rest on.
pub const UPKEEP_OWING_MAX: usize = 256;

/// An entry of the time index without a row is removed after this long: its row may still be on its way before.
pub const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// An app that left no sign of life for this long has moved or was renamed.
pub const APP_SILENT_MAX: Duration = Duration::from_secs(3600);

/// A difference between two clocks from which on an operator is told.
pub const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(2);
