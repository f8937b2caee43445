//! Messages of a pull, cut out of what was read from NATS: `MSG subject sid reply size` and `HMSG subject sid reply headers size`,
//! where `reply` is an acknowledgement subject: $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<number>.<ns>.<pending>, or the
//! longer form with domain and account (ADR-15). Whatever has another form ends the run, and is no judgement.

const std = @import("std");

pub const Where = extern struct { subject: u32, subject_end: u32, headers: u32, payload: u32, end: u32 };

const SHARES = 16;

/// `end`: of the last whole message. `next_end`: of the one behind it, which is not whole; 0 where that is not known. `sids`: the pulls
/// for which they came, by turns, with how many and how many bytes of each.
pub const Run = extern struct {
    count: u64,
    end: u64,
    next_end: u64,
    first_number: u64,
    pending: u64,
    shares: u64,
    sids: [SHARES]u64,
    counts: [SHARES]u64,
    sizes: [SHARES]u64,

    fn share(self: *Run, sid: u64, size: u64) bool {
        const count: usize = @intCast(self.shares);
        var index: usize = 0;
        while (index < count and self.sids[index] != sid) index += 1;
        if (index == SHARES) return false;
        if (index == count) {
            self.sids[index] = sid;
            self.shares += 1;
        }
        self.counts[index] += 1;
        self.sizes[index] += size;
        return true;
    }
};

const Failure = error{Other};

const Frame = struct {
    sid: u64,
    stream: []const u8,
    consumer: []const u8,
    where: Where,
    body_end: usize, // with the line's end behind it
    seq: u64,
    number: u64,
    nanos: u64,
    pending: u64,
    size: u64, // as the server counts it
};

fn token(line: []const u8, at: *usize) Failure![]const u8 {
    const start = at.*;
    const end = std.mem.indexOfScalarPos(u8, line, start, ' ') orelse line.len;
    if (end == start or start > line.len) return error.Other;
    at.* = @min(end + 1, line.len);
    return line[start..end];
}

fn number(text: []const u8) Failure!u64 {
    if (text.len < 1 or text.len > 19) return error.Other;
    var value: u64 = 0;
    for (text) |character| {
        const digit = character -% '0';
        if (digit > 9) return error.Other;
        value = value * 10 + digit;
    }
    return value;
}

fn acknowledgement(reply: []const u8, frame: *Frame) Failure!void {
    if (!std.mem.startsWith(u8, reply, "$JS.ACK.")) return error.Other;
    var tokens: [11][]const u8 = undefined;
    var count: usize = 0;
    var parts = std.mem.splitScalar(u8, reply, '.');
    while (parts.next()) |part| {
        if (count < tokens.len) tokens[count] = part;
        count += 1;
    }
    const at: usize = if (count == 9) 5 else if (count >= 11) 7 else return error.Other;
    frame.stream = tokens[at - 3];
    frame.consumer = tokens[at - 2];
    frame.seq = try number(tokens[at]);
    frame.number = try number(tokens[at + 1]);
    frame.nanos = try number(tokens[at + 2]);
    frame.pending = try number(tokens[at + 3]);
}

fn read(data: []const u8, start: usize, frame: *Frame, next_end: *u64) Failure!void {
    const line_end = std.mem.indexOfScalarPos(u8, data, start, '\r') orelse return error.Other;
    if (line_end + 1 >= data.len or data[line_end + 1] != '\n') return error.Other;
    const line = data[start..line_end];
    var at: usize = 0;
    const verb = try token(line, &at);
    const headed = std.mem.eql(u8, verb, "HMSG");
    if (!headed and !std.mem.eql(u8, verb, "MSG")) return error.Other;
    const subject_at = start + at;
    const subject = try token(line, &at);
    frame.sid = try number(try token(line, &at));
    const reply = try token(line, &at);
    const headers = if (headed) try number(try token(line, &at)) else 0;
    const body = try number(try token(line, &at));
    if (at != line.len or headers > body or body > std.math.maxInt(i32)) return error.Other;
    try acknowledgement(reply, frame);
    const first = line_end + 2;
    const end = first + body;
    if (end + 2 > data.len) {
        next_end.* = end + 2;
        return error.Other;
    }
    if (data[end] != '\r' or data[end + 1] != '\n') return error.Other;
    frame.where = .{
        .subject = @intCast(subject_at),
        .subject_end = @intCast(subject_at + subject.len),
        .headers = @intCast(first),
        .payload = @intCast(first + headers),
        .end = @intCast(end),
    };
    frame.body_end = end + 2;
    frame.size = subject.len + reply.len + body;
}

/// As many messages of one consumer as stand there with consecutive numbers, up to `room`.
export fn marketprism_cut(
    text: [*]const u8,
    length: usize,
    start: usize,
    seqs_: [*]u64,
    arrived_: [*]i64,
    where_: [*]Where,
    room: usize,
    run: *Run,
) void {
    const data = text[0..length];
    const seqs = seqs_[0..room];
    const arrived = arrived_[0..room];
    const where = where_[0..room];
    run.* = std.mem.zeroes(Run);
    run.end = start;
    if (length > std.math.maxInt(i32)) return;
    var at = start;
    var first: Frame = undefined;
    while (run.count < room) {
        var frame: Frame = undefined;
        read(data, at, &frame, &run.next_end) catch return;
        const index: usize = @intCast(run.count);
        if (index == 0) {
            first = frame;
            run.first_number = frame.number;
        } else if (frame.number != run.first_number +% run.count or frame.seq <= seqs[index - 1] or
            !std.mem.eql(u8, frame.consumer, first.consumer) or !std.mem.eql(u8, frame.stream, first.stream))
        {
            return;
        }
        if (!run.share(frame.sid, frame.size)) return;
        seqs[index] = frame.seq;
        arrived[index] = @intCast(frame.nanos / 1000);
        where[index] = frame.where;
        run.pending = frame.pending;
        run.count += 1;
        at = frame.body_end;
        run.end = at;
    }
}
