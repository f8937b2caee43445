//! What is done for each message or level, in one call for many. Only what is plain is known here: everything else is left to
//! Python, the one rule, and is no judgement.
//! Built with all of Zig's checks: an index beyond a slice reads or writes nothing, it ends the process. What was read is read again
//! then: so another program takes its place, if one was named, which is to go without the kernel.

const builtin = @import("builtin");
const std = @import("std");

const Program = struct { path: [*:0]const u8, arguments: [*:null]const ?[*:0]const u8, environ: [*:null]const ?[*:0]const u8 };

var instead: ?Program = null;

/// What takes the place of the process. The caller keeps the texts.
export fn marketprism_instead(
    path: [*:0]const u8,
    arguments: [*:null]const ?[*:0]const u8,
    environ: [*:null]const ?[*:0]const u8,
) void {
    instead = .{ .path = path, .arguments = arguments, .environ = environ };
}

fn failed(_: []const u8, _: ?usize) noreturn {
    if (builtin.os.tag == .linux) if (instead) |program| {
        _ = std.os.linux.execve(program.path, program.arguments, program.environ);
    };
    @trap();
}

pub const panic = std.debug.FullPanic(failed);

comptime {
    _ = @import("frames.zig");
    _ = @import("levels.zig");
    _ = @import("texts.zig");
    _ = @import("trades.zig");
}
