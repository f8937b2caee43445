//! Trades as nearly all of them come, to the bytes of ClickHouse's columns: a flat JSON object of plain ASCII texts, decimals of up to
//! 19 and 18 digits, and times in milliseconds or as YYYY-MM-DD HH:MM:SS.mmm.

const std = @import("std");
const frames = @import("frames.zig");
const levels = @import("levels.zig");
const texts = @import("texts.zig");

const Failure = levels.Failure;
const EARLIEST: i64 = 1_230_768_000_000_000; // as `values.py` has them [µs]
const LATEST: i64 = 4_102_444_800_000_000;
const HOUR: i64 = 3_600_000_000;
const HOURS = 32; // at most, of one call: `PARTITIONS` of columns.py
const TEXTS = 5;

/// One entry for each trade that is plain; `seqs` are its message's. `ids`: each with its length before it. `hours`: all that occur.
/// `others`: the messages that are not plain, by their index.
pub const Columns = extern struct {
    seqs: [*]u64,
    timestamp: [*]i64,
    trade_time: [*]i64,
    collected_at: [*]i64,
    not_collected: [*]u8,
    price: [*][16]u8,
    quantity: [*][16]u8,
    is_maker: [*]u8,
    not_maker: [*]u8,
    texts: [TEXTS][*]u16, // exchange, market_type, symbol, side, data_source
    ids: [*]u8,
    ids_room: u64,
    ids_length: u64,
    hours: [*]i64,
    hours_count: u64,
    others: [*]u32,
    others_count: u64,
    count: u64,
    payloads: u64, // bytes, of those that are plain
};

const Name = enum {
    exchange,
    market_type,
    symbol,
    side,
    data_source,
    data_type,
    trade_id,
    price,
    quantity,
    is_maker,
    timestamp,
    ts_ms,
    trade_time,
    trade_ts_ms,
    collected_at,
    collected_ts_ms,
};

const Trade = struct {
    text: [TEXTS][]const u8 = .{ "", "", "", "", "" }, // as in Columns
    given: std.EnumSet(Name) = std.EnumSet(Name).initEmpty(), // and not null
    seen: std.EnumSet(Name) = std.EnumSet(Name).initEmpty(),
    data_type: []const u8 = "",
    trade_id: []const u8 = "",
    price: u128 = 0,
    quantity: u128 = 0,
    is_maker: bool = false,
    timestamp: []const u8 = "",
    trade_time: []const u8 = "",
    collected_at: []const u8 = "",
    ts_ms: i64 = 0,
    trade_ts_ms: i64 = 0,
    collected_ts_ms: i64 = 0,
};

/// Between quotes, without escapes.
fn string(reader: *levels.Reader) Failure![]const u8 {
    try reader.expect("\"");
    const start = reader.at;
    while (reader.at < reader.text.len) : (reader.at += 1) {
        const character = reader.text[reader.at];
        if (character == '"') {
            reader.at += 1;
            return reader.text[start .. reader.at - 1];
        }
        if (character < ' ' or character >= 0x7f or character == '\\') return error.NotPlain;
    }
    return error.NotPlain;
}

fn integer(reader: *levels.Reader) Failure!i64 {
    const start = reader.at;
    const found = reader.digits();
    if (found.count < 1 or found.count > 18) return error.NotPlain;
    if (found.count > 1 and reader.text[start] == '0') return error.NotPlain;
    switch (reader.peek()) {
        '.', 'e', 'E' => return error.NotPlain,
        else => return @intCast(found.value),
    }
}

fn nothing(reader: *levels.Reader) Failure!bool {
    if (reader.peek() != 'n') return false;
    try reader.expect("null");
    return true;
}

fn boolean(reader: *levels.Reader) Failure!bool {
    if (reader.peek() == 't') {
        try reader.expect("true");
        return true;
    }
    try reader.expect("false");
    return false;
}

fn skip(reader: *levels.Reader) Failure!void {
    switch (reader.peek()) {
        '"' => _ = try string(reader),
        'n' => _ = try nothing(reader),
        't', 'f' => _ = try boolean(reader),
        else => _ = try integer(reader),
    }
}

fn parse(payload: []const u8) Failure!Trade {
    var reader = levels.Reader{ .text = payload };
    var trade = Trade{};
    reader.blanks();
    try reader.expect("{");
    while (true) {
        reader.blanks();
        const key = try string(&reader);
        reader.blanks();
        try reader.expect(":");
        reader.blanks();
        if (std.meta.stringToEnum(Name, key)) |name| {
            if (trade.seen.contains(name)) return error.NotPlain;
            trade.seen.insert(name);
            if (!try nothing(&reader)) {
                trade.given.insert(name);
                switch (name) {
                    .exchange => trade.text[0] = try string(&reader),
                    .market_type => trade.text[1] = try string(&reader),
                    .symbol => trade.text[2] = try string(&reader),
                    .side => trade.text[3] = try string(&reader),
                    .data_source => trade.text[4] = try string(&reader),
                    .data_type => trade.data_type = try string(&reader),
                    .trade_id => trade.trade_id = try string(&reader),
                    .price => trade.price = (try reader.number()).value,
                    .quantity => trade.quantity = (try reader.number()).value,
                    .is_maker => trade.is_maker = try boolean(&reader),
                    .timestamp => trade.timestamp = try string(&reader),
                    .trade_time => trade.trade_time = try string(&reader),
                    .collected_at => trade.collected_at = try string(&reader),
                    .ts_ms => trade.ts_ms = try integer(&reader),
                    .trade_ts_ms => trade.trade_ts_ms = try integer(&reader),
                    .collected_ts_ms => trade.collected_ts_ms = try integer(&reader),
                }
            }
        } else try skip(&reader);
        reader.blanks();
        if (reader.peek() == '}') {
            reader.at += 1;
            break;
        }
        try reader.expect(",");
    }
    reader.blanks();
    return if (reader.at == payload.len) trade else error.NotPlain;
}

fn pair(text: []const u8, at: usize) Failure!i64 {
    const tens = text[at] -% '0';
    const ones = text[at + 1] -% '0';
    if (tens > 9 or ones > 9) return error.NotPlain;
    return @as(i64, tens) * 10 + ones;
}

/// YYYY-MM-DD HH:MM:SS with up to nine digits of a second behind a point, of UTC; finer than a microsecond is cut [µs]. Or a whole
/// number since 1970 in s, ms, µs or ns, told apart by its magnitude.
fn micros(text_: []const u8) Failure!i64 {
    var text = text_;
    if (text.len < 5 or text[4] != '-') return epoch(text);
    if (std.mem.endsWith(u8, text, "Z")) text = text[0 .. text.len - 1];
    if (std.mem.endsWith(u8, text, "+00:00")) text = text[0 .. text.len - 6];
    if (text.len < 19 or text[4] != '-' or text[7] != '-' or text[13] != ':' or text[16] != ':') return error.NotPlain;
    if (text[10] != ' ' and text[10] != 'T') return error.NotPlain;
    const year = try pair(text, 0) * 100 + try pair(text, 2);
    const month = try pair(text, 5);
    const day = try pair(text, 8);
    const hour = try pair(text, 11);
    const minute = try pair(text, 14);
    const second = try pair(text, 17);
    if (year < 2009 or year > 2099 or month < 1 or month > 12 or hour > 23 or minute > 59 or second > 59) return error.NotPlain;
    const leap = @mod(year, 4) == 0; // no other rule matters from 2009 to 2099
    const lengths = [12]i64{ 31, if (leap) 29 else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const month_index: usize = @intCast(month - 1);
    if (day < 1 or day > lengths[month_index]) return error.NotPlain;
    var days = (year - 1970) * 365 + @divTrunc(year - 1969, 4) + day - 1;
    for (lengths[0..month_index]) |length| days += length;
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + try fraction(text[19..]);
}

fn epoch(text: []const u8) Failure!i64 {
    if (text.len < 1 or text.len > 19) return error.NotPlain;
    var number: u64 = 0; // of 19 digits at most
    for (text) |character| {
        const digit = character -% '0';
        if (digit > 9) return error.NotPlain;
        number = number * 10 + digit;
    }
    if (number > std.math.maxInt(i64)) return error.NotPlain;
    const value: i64 = @intCast(number);
    const found = if (value < 100_000_000_000) value * 1_000_000 else if (value < 100_000_000_000_000) value * 1000 else if (value < 100_000_000_000_000_000) value else @divTrunc(value, 1000);
    return if (found < EARLIEST or found >= LATEST) error.NotPlain else found;
}

fn fraction(text: []const u8) Failure!i64 {
    if (text.len == 0) return 0;
    if (text[0] != '.' or text.len < 2 or text.len > 10) return error.NotPlain;
    var value: i64 = 0;
    for (1..7) |index| {
        const digit = if (index < text.len) text[index] -% '0' else 0;
        if (digit > 9) return error.NotPlain;
        value = value * 10 + digit;
    }
    for (text[@min(7, text.len)..]) |character| {
        if (character -% '0' > 9) return error.NotPlain;
    }
    return value;
}

fn from_millis(ms: i64) Failure!i64 {
    if (ms < EARLIEST / 1000 or ms >= LATEST / 1000) return error.NotPlain;
    return ms * 1000;
}

/// The text's, or else that of the milliseconds; null where neither is given.
fn time(trade: *const Trade, name: Name, text: []const u8, name_ms: Name, ms: i64) Failure!?i64 {
    if (trade.given.contains(name)) return try micros(text);
    if (trade.given.contains(name_ms)) return try from_millis(ms);
    return null;
}

fn named(text: []const u8) Failure!void {
    if (text.len < 1 or text.len > 128) return error.NotPlain;
}

const Times = struct { timestamp: i64, trade_time: i64, collected_at: ?i64 };

/// `latest`: no trade may have been later [µs].
fn judge(trade: *const Trade, latest: i64) Failure!Times {
    for ([_]Name{ .exchange, .market_type, .symbol, .data_type, .side, .trade_id, .price, .quantity }) |name| {
        if (!trade.given.contains(name)) return error.NotPlain;
    }
    for (trade.text[0..3]) |text| try named(text);
    if (trade.text[4].len > 256 or trade.trade_id.len < 1 or trade.trade_id.len > 256) return error.NotPlain;
    if (!std.mem.eql(u8, trade.data_type, "trade") or trade.price == 0) return error.NotPlain;
    const side = trade.text[3];
    if (!std.mem.eql(u8, side, "buy") and !std.mem.eql(u8, side, "sell") and !std.mem.eql(u8, side, "unknown")) return error.NotPlain;
    var timestamp: i64 = undefined;
    var traded: i64 = undefined;
    if (trade.given.contains(.trade_ts_ms)) {
        timestamp = try from_millis(trade.trade_ts_ms);
        traded = timestamp;
    } else {
        if (!trade.given.contains(.trade_time)) return error.NotPlain;
        timestamp = try time(trade, .timestamp, trade.timestamp, .ts_ms, trade.ts_ms) orelse return error.NotPlain;
        const once = trade.given.contains(.timestamp) and std.mem.eql(u8, trade.timestamp, trade.trade_time);
        traded = if (once) timestamp else try micros(trade.trade_time);
    }
    if (timestamp > latest) return error.NotPlain;
    return .{
        .timestamp = timestamp,
        .trade_time = traded,
        .collected_at = try time(trade, .collected_at, trade.collected_at, .collected_ts_ms, trade.collected_ts_ms),
    };
}

fn seen_hour(columns: *Columns, hour: i64) Failure!void {
    const known = columns.hours[0..HOURS];
    const count: usize = @intCast(columns.hours_count);
    var index = count;
    while (index > 0) : (index -= 1) {
        if (known[index - 1] == hour) return;
    }
    if (count == HOURS) return error.NotPlain;
    known[count] = hour;
    columns.hours_count += 1;
}

fn put(columns: *Columns, dictionary: *texts.Texts, room: usize, payload: []const u8, seq: u64, latest: i64) Failure!void {
    const trade = try parse(payload);
    const times = try judge(&trade, latest);
    var numbers: [TEXTS]u16 = undefined;
    for (trade.text, &numbers) |text, *each| each.* = dictionary.intern(text) orelse return error.NotPlain;
    const ids = columns.ids[0..@intCast(columns.ids_room)];
    const at: usize = @intCast(columns.ids_length);
    const id = trade.trade_id;
    if (ids.len - at < id.len + 2) return error.NotPlain;
    try seen_hour(columns, @divFloor(times.timestamp, HOUR));
    const index: usize = @intCast(columns.count);
    if (index >= room) return error.NotPlain;
    columns.seqs[index] = seq;
    columns.timestamp[index] = times.timestamp;
    columns.trade_time[index] = times.trade_time;
    columns.collected_at[index] = times.collected_at orelse 0;
    columns.not_collected[index] = @intFromBool(times.collected_at == null);
    std.mem.writeInt(u128, &columns.price[index], trade.price, .little);
    std.mem.writeInt(u128, &columns.quantity[index], trade.quantity, .little);
    columns.is_maker[index] = @intFromBool(trade.is_maker);
    columns.not_maker[index] = @intFromBool(!trade.given.contains(.is_maker));
    for (columns.texts, numbers) |column, each| column[index] = each;
    var start = at;
    if (id.len > 0x7f) { // a length in LEB128: 256 at most
        ids[start] = @intCast(id.len & 0x7f | 0x80);
        ids[start + 1] = @intCast(id.len >> 7);
        start += 2;
    } else {
        ids[start] = @intCast(id.len);
        start += 1;
    }
    @memcpy(ids[start..][0..id.len], id);
    columns.ids_length = start + id.len;
    columns.payloads += payload.len;
    columns.count += 1;
}

/// `slack`: a trade may be so much later than its message's arrival [µs]. All of `columns`, but `hours` and `ids`, have room for `count`.
export fn marketprism_trades(
    text: [*]const u8,
    length: usize,
    where: [*]const frames.Where,
    seqs: [*]const u64,
    arrived: [*]const i64,
    count: usize,
    slack: i64,
    dictionary: *texts.Texts,
    columns: *Columns,
) void {
    const data = text[0..length];
    for (where[0..count], seqs[0..count], arrived[0..count], 0..) |place, seq, arrival, index| {
        put(columns, dictionary, count, data[place.payload..place.end], seq, arrival +| slack) catch {
            columns.others[@intCast(columns.others_count)] = @intCast(index);
            columns.others_count += 1;
        };
    }
}
