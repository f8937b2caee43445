//! What is done for each message or level, in one call for many. Only what is plain is known here: everything else is left to
//! Python, the one rule, and is no judgement.
//! Built with all of Zig's checks: an index beyond a slice ends the process, it reads or writes nothing.

const std = @import("std");

pub const panic = std.debug.no_panic; // a trap, without what would print a trace

comptime {
    _ = @import("frames.zig");
    _ = @import("levels.zig");
    _ = @import("texts.zig");
    _ = @import("trades.zig");
}
