//! Texts that come again and again, each once: what columns of LowCardinality(String) are made of.

const std = @import("std");

pub const SLOTS = 1 << 16;
const MOST = SLOTS / 2; // of texts
const PROBES = 64;

/// `slots` (SLOTS of them): hash to number + 1; `ends`: where each text ends in `bytes`. It only grows: a number that was given stays.
pub const Texts = extern struct {
    slots: [*]u16,
    ends: [*]u32,
    bytes: [*]u8,
    room: u64,
    count: u64,

    /// The number of the text; null where it is a new one and there is no room.
    pub fn intern(self: *Texts, text: []const u8) ?u16 {
        const slots = self.slots[0..SLOTS];
        const ends = self.ends[0..MOST];
        const bytes = self.bytes[0..@intCast(self.room)];
        const count: usize = @intCast(self.count);
        var slot: usize = @intCast(std.hash.Wyhash.hash(0, text) & (SLOTS - 1));
        for (0..PROBES) |_| {
            const found = slots[slot];
            if (found == 0) {
                const start = if (count == 0) 0 else ends[count - 1];
                if (count == MOST or bytes.len - start < text.len) return null;
                @memcpy(bytes[start..][0..text.len], text);
                ends[count] = @intCast(start + text.len);
                slots[slot] = @intCast(count + 1);
                self.count += 1;
                return @intCast(count);
            }
            const index: usize = found - 1;
            const start = if (index == 0) 0 else ends[index - 1];
            if (std.mem.eql(u8, bytes[start..ends[index]], text)) return @intCast(index);
            slot = (slot + 1) & (SLOTS - 1);
        }
        return null;
    }
};

/// -1 where there is no room.
export fn marketprism_intern(texts: *Texts, text: [*]const u8, length: usize) i64 {
    return texts.intern(text[0..length]) orelse -1;
}

/// Numbers to 0, 1, 2, … in the order in which they first come. `used` gets those that come; returns how many. `places` is
/// scratch; both are SLOTS long.
export fn marketprism_compact(numbers: [*]u16, count: usize, places_: [*]u32, used_: [*]u16) usize {
    const places = places_[0..SLOTS];
    const used = used_[0..SLOTS];
    @memset(places, 0);
    var distinct: usize = 0;
    for (numbers[0..count]) |*each| {
        if (places[each.*] == 0) {
            used[distinct] = each.*;
            distinct += 1;
            places[each.*] = @intCast(distinct);
        }
        each.* = @intCast(places[each.*] - 1);
    }
    return distinct;
}
