//! One side of an order book, as JSON text, to the bytes of two ClickHouse columns: prices and quantities as
//! Decimal(38, 18), 16 bytes little endian each.
//!
//! Only the two plain forms are known here: [["price","quantity"],…] and [{"price":"…","quantity":"…"},…] of texts of
//! 1 to 19 digits, a point and 1 to 18 digits if any. Everything else is NOT_PLAIN, which is no judgement.
//! Built with all of Zig's checks: an index beyond a slice ends the process, it reads or writes nothing.

const std = @import("std");

const NOT_PLAIN: i64 = -1;
const MAX_WHOLE = 19;
const SCALE = 18;
const POWERS = powers();

fn powers() [SCALE + 1]u64 {
    var all: [SCALE + 1]u64 = undefined;
    var power: u64 = 1;
    for (&all, 0..) |*each, index| {
        each.* = power;
        if (index < SCALE) power *= 10;
    }
    return all;
}

pub const Failure = error{NotPlain};

pub const Number = struct { value: u128, start: usize, end: usize };

const Digits = struct { value: u64, count: usize };

pub const Reader = struct {
    text: []const u8,
    at: usize = 0,

    pub inline fn peek(self: *const Reader) u8 {
        return if (self.at < self.text.len) self.text[self.at] else 0;
    }

    pub inline fn blanks(self: *Reader) void {
        while (true) switch (self.peek()) {
            ' ', '\n', '\r', '\t' => self.at += 1,
            else => return,
        };
    }

    pub inline fn expect(self: *Reader, comptime token: []const u8) Failure!void {
        if (self.text.len - self.at < token.len) return error.NotPlain;
        if (!std.mem.eql(u8, self.text[self.at..][0..token.len], token)) return error.NotPlain;
        self.at += token.len;
    }

    /// Digits from here on, eight at a time; `value` is of no use where `count` is above 19.
    pub inline fn digits(self: *Reader) Digits {
        var value: u64 = 0;
        const start = self.at;
        while (self.at - start <= 16 and self.text.len - self.at >= 8) {
            const word = std.mem.readInt(u64, self.text[self.at..][0..8], .little) ^ 0x3030303030303030;
            const other = ((word +% 0x7676767676767676) | word) & 0x8080808080808080;
            if (other == 0) {
                value = value *% 100_000_000 +% eight(word);
                self.at += 8;
                continue;
            }
            const count: usize = @ctz(other) >> 3;
            if (count > 0) value = value *% POWERS[count] +% eight(word << @intCast(8 * (8 - count)));
            self.at += count;
            return .{ .value = value, .count = self.at - start };
        }
        while (self.at - start <= 20) { // the text's last bytes, or too many
            const digit = self.peek() -% '0';
            if (digit > 9) break;
            value = value *% 10 +% digit;
            self.at += 1;
        }
        return .{ .value = value, .count = self.at - start };
    }

    /// The number that eight digits are, the first one in the lowest byte.
    inline fn eight(digits_: u64) u64 {
        const x = (digits_ *% 10) +% (digits_ >> 8);
        const low = (x & 0x000000FF000000FF) *% 0x000F424000000064;
        const high = ((x >> 16) & 0x000000FF000000FF) *% 0x0000271000000001;
        return (low +% high) >> 32;
    }

    pub inline fn number(self: *Reader) Failure!Number {
        try self.expect("\"");
        const start = self.at;
        const whole = self.digits();
        if (whole.count < 1 or whole.count > MAX_WHOLE) return error.NotPlain;
        var value = @as(u128, whole.value) * POWERS[SCALE];
        if (self.peek() == '.') {
            self.at += 1;
            const fraction = self.digits();
            if (fraction.count < 1 or fraction.count > SCALE) return error.NotPlain;
            value += fraction.value * POWERS[SCALE - fraction.count];
        }
        const end = self.at;
        try self.expect("\"");
        return .{ .value = value, .start = start, .end = end };
    }

    inline fn name(self: *Reader, comptime quoted: []const u8) Failure!void {
        self.blanks();
        try self.expect(quoted);
        self.blanks();
        try self.expect(":");
        self.blanks();
    }
};


/// Where in the text the best price that has a quantity stands, and its quantity. All zero where no level has one.
pub const Best = extern struct { price_start: i64, price_end: i64, quantity_start: i64, quantity_end: i64 };

fn side(text: []const u8, highest: bool, prices: [][16]u8, quantities: [][16]u8, best: *Best) Failure!usize {
    best.* = .{ .price_start = 0, .price_end = 0, .quantity_start = 0, .quantity_end = 0 };
    var reader = Reader{ .text = text };
    var count: usize = 0;
    var top: u128 = 0;
    var found = false;
    reader.blanks();
    try reader.expect("[");
    reader.blanks();
    if (reader.peek() == ']') {
        reader.at += 1;
    } else while (true) {
        if (count >= prices.len) return error.NotPlain;
        const object = reader.peek() == '{';
        if (object) {
            try reader.expect("{");
            try reader.name("\"price\"");
        } else {
            try reader.expect("[");
            reader.blanks();
        }
        const price = try reader.number();
        if (price.value == 0) return error.NotPlain;
        reader.blanks();
        try reader.expect(",");
        if (object) try reader.name("\"quantity\"") else reader.blanks();
        const quantity = try reader.number();
        reader.blanks();
        if (object) try reader.expect("}") else try reader.expect("]");
        std.mem.writeInt(u128, &prices[count], price.value, .little);
        std.mem.writeInt(u128, &quantities[count], quantity.value, .little);
        if (quantity.value != 0 and (!found or (if (highest) price.value > top else price.value < top))) {
            found = true;
            top = price.value;
            best.* = .{
                .price_start = @intCast(price.start),
                .price_end = @intCast(price.end),
                .quantity_start = @intCast(quantity.start),
                .quantity_end = @intCast(quantity.end),
            };
        }
        count += 1;
        reader.blanks();
        if (reader.peek() == ']') {
            reader.at += 1;
            break;
        }
        try reader.expect(",");
        reader.blanks();
    }
    reader.blanks();
    return if (reader.at == text.len) count else error.NotPlain;
}

/// How many levels, or NOT_PLAIN. `highest`: the best price is the highest one. `prices` and `quantities` have room for `room`
/// numbers each.
export fn marketprism_levels(
    text: [*]const u8,
    length: usize,
    highest: bool,
    prices: [*][16]u8,
    quantities: [*][16]u8,
    room: usize,
    best: *Best,
) i64 {
    const count = side(text[0..length], highest, prices[0..room], quantities[0..room], best) catch return NOT_PLAIN;
    return @intCast(count);
}
