//! What is done to a queue in one step.
//!
//! A script that changes something checks first whatever may refuse it. When memory is short the first
//! command that would take some is refused, and after a command that writes none is any more: so where
//! something must not be half done, the one that may be refused comes first, and what frees memory in the
//! end (workers do) begins with a deletion, if only of nothing.

use crate::store::redis::script::Script;

/// KEYS 1 is who owns the shards, ARGV 1 the shard, ARGV 2 its term and worker: ends the script if that isn't so.
/// In the hash stands when the lease ends, `/`, how long it is, the term's number, the worker.
macro_rules! mine {
    () => {
        "local own = redis.call('HGET', KEYS[1], ARGV[1])
         if not own or string.match(own, ' (.*)') ~= ARGV[2] then return false end
         "
    };
}

/// Microseconds since 1970.
macro_rules! now {
    () => {
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         "
    };
}

/// `highest(first, final)`: the largest number that the streams of these keys know of. It outlives the meta key,
/// and what was appended by hand.
macro_rules! highest {
    () => {
        "local function highest(first, final)
             local last = 0
             for at = first, final do
                 local info = redis.pcall('XINFO', 'STREAM', KEYS[at])
                 for n = 1, #info, 2 do
                     if info[n] == 'last-generated-id' then
                         last = math.max(last, tonumber(string.match(info[n + 1], '^%d+')))
                     end
                 end
             end
             return last
         end
         "
    };
}

/// `drop(key, head)`: removes an entry, unless it begins like this, or is a fence, or none of ours.
macro_rules! drop_entry {
    () => {
        "local function drop(key, head)
             local there = redis.pcall('GETRANGE', key, 0, 19)
             if type(there) == 'table' or string.sub(there, 1, 4) == '\\202^\\001\\003' then return end
             if head == '' or there ~= head then redis.call('UNLINK', key) end
         end
         "
    };
}

/// Which streams there are: another number than the first one said is told, and nothing is done.
macro_rules! shards {
    ($known:literal) => {
        concat!(
            "local shards = tonumber(ARGV[1])
             if ",
            $known,
            " and ",
            $known,
            " ~= ARGV[1] then return {-1, tonumber(",
            $known,
            ")} end
             "
        )
    };
}

/// Keys: meta, pending, streams, entries. Shards, 1 if all streams are given, which of them, capacity, kind, order
/// key, payload, the keys of the entries or nothing; for each entry its value, its life in ms or nothing or `-` for no
/// value, its copy.
///
/// As a rule the one stream will do. Where the meta key doesn't know how many writes there are, or their last
/// number, or thinks that the queue is full, or the stream knows better, nothing is done, and -2 asks for all.
///
/// In a cluster the entries are in other slots: then their keys aren't given, they are what the names say, and
/// nothing is done to them here.
///
/// A mark is the number in 16 digits, the length of what stands in the cache for it, up to 20 bytes of that,
/// the copy.
pub(super) static APPEND: Script = Script::new(concat!(
    "local known = redis.call('HMGET', KEYS[1], 'shards', 'last', 'count')
     ",
    shards!("known[1]"),
    now!(),
    "local last, count, capacity = tonumber(known[2]), tonumber(known[3]), tonumber(ARGV[4])
     local has_all, final = ARGV[2] == '1', 3
     if has_all then
         ",
    highest!(),
    "    count, final = 0, 2 + shards
         for at = 3, final do count = count + redis.call('XLEN', KEYS[at]) end
         if count >= capacity then return {0} end
         last = math.max(last or 0, highest(3, final))
     elseif not last or not count or count >= capacity then
         return {-2}
     end
     if #ARGV > 8 then redis.call('HLEN', KEYS[2]) end
     local stream, seq = KEYS[3 + ARGV[3]], string.format('%.0f', math.max(now, last + 1))
     local id
     if ARGV[8] == '' then
         id = redis.pcall('XADD', stream, seq .. '-0', 'kind', ARGV[5], 'key', ARGV[6], 'payload', ARGV[7])
     else
         id = redis.pcall('XADD', stream, seq .. '-0', 'kind', ARGV[5], 'key', ARGV[6], 'payload', ARGV[7],
             'entries', ARGV[8])
     end
     if type(id) == 'table' then
         if not has_all and string.find(id.err, 'equal or smaller', 1, true) then return {-2} end
         return id
     end
     if #ARGV > 8 then
         local function version(record)
             if string.sub(record, 1, 4) ~= '\\202^\\001\\001' or #record < 34 then return 0 end
             local a, b, c, d = string.byte(record, 31, 34)
             return a + 256 * (b + 256 * (c + 256 * d))
         end
         local function store(key, value, life)
             local there = redis.pcall('GETRANGE', key, 0, 33)
             if type(there) == 'table' or string.sub(there, 1, 4) == '\\202^\\001\\003' then return '' end
             local is_record = #there >= 20 and string.sub(there, 1, 2) == '\\202^'
             local is_newer = is_record and (string.byte(there, 3) > 1 or version(there) > version(value))
             if life ~= '-' and not is_newer then
                 local set
                 if life == '' then set = redis.pcall('SET', key, value)
                 else set = redis.pcall('SET', key, value, 'PX', life) end
                 if not set.err then return string.sub(value, 1, 20) end
             end
             local gone = redis.pcall('UNLINK', key)
             if type(gone) == 'table' then return nil, gone end
             return ''
         end
         local heads, apart = {}, #KEYS == final
         local function key(at)
             local n = (at - 6) / 3
             return apart and cjson.decode(ARGV[8])[n] or KEYS[final + n]
         end
         for at = 9, #ARGV, 3 do
             local head, err = '', nil
             if not apart then head, err = store(key(at), ARGV[at], ARGV[at + 1]) end
             if not head then
                 redis.call('XDEL', stream, id)
                 return err
             end
             heads[at] = head
         end
         local digits = string.rep('0', 16 - #seq) .. seq
         for at = 9, #ARGV, 3 do
             local mark = digits .. string.char(#heads[at]) .. heads[at] .. ARGV[at + 2]
             redis.call('HSET', KEYS[2], key(at), mark)
         end
     end
     redis.call('HSET', KEYS[1], 'shards', ARGV[1], 'last', seq, 'count', count + 1)
     return {1, seq}"
));

/// Keys: own, workers, meta, streams. Shards, worker, lease in ms; shard and number of each term to release.
///
/// The count of writes is put right, should somebody have touched the streams. Leases that are over are removed
/// before anything is written that takes memory. One that ends later than it can was written before the clock
/// was set back: it begins anew, or a worker that is dead would be one until the clock is there again. (Of a
/// worker that has no shard nobody knows how long its lease is: it isn't much longer than others.)
pub(super) static TEND: Script = Script::new(concat!(
    "local known = redis.call('HMGET', KEYS[3], 'shards', 'term')
     ",
    shards!("known[1]"),
    now!(),
    "local ms, worker = math.floor(now / 1000), ARGV[2]
     local function after(lease) return string.format('%.0f', ms + tonumber(lease)) end
     local till, latest = after(ARGV[3]), after(3 * ARGV[3])
     redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', ms))
     for _, late in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. latest, '+inf')) do
         redis.call('ZADD', KEYS[2], latest, late)
     end
     redis.call('ZADD', KEYS[2], till, worker)
     local share = math.ceil(shards / redis.call('ZCARD', KEYS[2]))
     local released, mine, free = {}, {}, {}
     for at = 4, #ARGV, 2 do released[ARGV[at]] = ARGV[at + 1] end
     for at = 1, shards do
         local shard = string.format('%d', at - 1)
         local own = redis.call('HGET', KEYS[1], shard)
         local ends, number, owner = string.match(own or '', '^(%d+)/%d+ (%d+) (.*)$')
         if owner ~= worker then
             if not owner or tonumber(ends) < ms then free[#free + 1] = at
             else
                 local lease = string.match(own, '/(%d+)')
                 if tonumber(ends) > ms + tonumber(lease) then
                     own = after(lease) .. '/' .. lease .. ' ' .. number .. ' ' .. owner
                     redis.call('HSET', KEYS[1], shard, own)
                 end
             end
         elseif released[shard] == number then
             redis.call('HDEL', KEYS[1], shard)
             free[#free + 1] = at
         else
             redis.call('HSET', KEYS[1], shard, till .. '/' .. ARGV[3] .. ' ' .. number .. ' ' .. worker)
             mine[#mine + 1] = {at - 1, number}
         end
     end
     local term = math.max(now, (tonumber(known[2]) or 0) + 1)
     for _, at in ipairs(free) do
         if #mine >= share then break end
         local number = string.format('%.0f', term)
         local own = till .. '/' .. ARGV[3] .. ' ' .. number .. ' ' .. worker
         redis.call('HSET', KEYS[1], string.format('%d', at - 1), own)
         redis.call('HSET', KEYS[3], 'shards', ARGV[1], 'term', number)
         redis.pcall('XGROUP', 'CREATE', KEYS[3 + at], 'workers', '0', 'MKSTREAM')
         mine[#mine + 1] = {at - 1, number}
         term = term + 1
     end
     local count = 0
     for at = 4, 3 + shards do count = count + redis.call('XLEN', KEYS[at]) end
     redis.call('HSET', KEYS[3], 'count', count)
     return {1, share, mine}"
));

/// Keys: own, workers. Worker.
pub(super) static LEAVE: Script = Script::new(
    "local all = redis.call('HGETALL', KEYS[1])
     for at = 1, #all, 2 do
         if string.match(all[at + 1], '^%d+/%d+ %d+ (.*)$') == ARGV[1] then
             redis.call('HDEL', KEYS[1], all[at])
         end
     end
     redis.call('ZREM', KEYS[2], ARGV[1])
     return 1",
);

/// Keys: own, stream. Shard, term and worker, worker, how many; the last id that has come to the worker: what it
/// was handed after that was lost on the way, or will be (one that was given up may be carried out late, over a
/// connection that was), and comes first.
///
/// After about a megabyte there is no more, whatever was asked for: a reply that takes longer than it is waited
/// for would never come. How many more are read is guessed from those that were.
///
/// Each is the id, the fields and the number of deliveries.
pub(super) static READ: Script = Script::new(concat!(
    mine!(),
    now!(),
    "local found, most, bytes, limit = {}, tonumber(ARGV[4]), 0, 1048576
     local function add(id, fields, deliveries)
         found[#found + 1] = {id, fields, deliveries}
         for n = 2, #fields, 2 do bytes = bytes + #fields[n] end
     end
     local lost = redis.pcall('XPENDING', KEYS[2], 'workers', '(' .. ARGV[5], '+', most, ARGV[3])
     for _, one in ipairs(lost) do
         if bytes >= limit then break end
         local entry = redis.call('XRANGE', KEYS[2], one[1], one[1])[1]
         if entry then add(one[1], entry[2], one[4])
         else redis.call('XACK', KEYS[2], 'workers', one[1]) end
     end
     local function read(many)
         return redis.pcall('XREADGROUP', 'GROUP', 'workers', ARGV[3], 'COUNT', many, 'STREAMS', KEYS[2], '>')
     end
     while #found < most and bytes < limit do
         local many = 4
         if #found > 0 then many = math.max(1, math.floor((limit - bytes) / (bytes / #found + 1))) end
         many = math.min(many, most - #found)
         local new = read(many)
         if new and new.err and string.find(new.err, 'NOGROUP', 1, true) then
             redis.call('XGROUP', 'CREATE', KEYS[2], 'workers', '0', 'MKSTREAM')
             new = read(many)
         end
         if new and new.err then return new end
         new = new and new[1][2] or {}
         for _, entry in ipairs(new) do add(entry[1], entry[2], 1) end
         if #new < many then break end
     end
     return {string.format('%.0f', now), found}"
));

/// Keys: own, stream. Shard, term and worker, worker; the last id that has come, or `-` before the first page. As the
/// one before, and 1 if there is another page.
pub(super) static RECOVER: Script = Script::new(concat!(
    mine!(),
    now!(),
    "local from, found, bytes, limit = '0-0', {}, 0, 1048576
     local time_of_reply = string.format('%.0f', now)
     while ARGV[4] == '-' do
         local page = redis.pcall('XAUTOCLAIM', KEYS[2], 'workers', ARGV[3], 0, from, 'COUNT', 100, 'JUSTID')
         if page.err and string.find(page.err, 'NOGROUP', 1, true) then
             redis.call('XGROUP', 'CREATE', KEYS[2], 'workers', '0', 'MKSTREAM')
             return {time_of_reply, found, 0}
         end
         if page.err then return page end
         from = page[1]
         if from == '0-0' then break end
     end
     from = ARGV[4]
     if from ~= '-' then from = '(' .. from end
     while from do
         local page = redis.call('XPENDING', KEYS[2], 'workers', from, '+', 100)
         for _, one in ipairs(page) do
             if bytes >= limit then return {time_of_reply, found, 1} end
             local entry = redis.call('XRANGE', KEYS[2], one[1], one[1])[1]
             if entry then
                 found[#found + 1] = {one[1], entry[2], one[4]}
                 for n = 2, #entry[2], 2 do bytes = bytes + #entry[2][n] end
             else redis.call('XACK', KEYS[2], 'workers', one[1]) end
         end
         from = #page == 100 and '(' .. page[100][1]
     end
     for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], 'workers')) do
         local is = {}
         for at = 1, #consumer, 2 do is[consumer[at]] = consumer[at + 1] end
         if is.pending == 0 and is.name ~= ARGV[3] then
             redis.call('XGROUP', 'DELCONSUMER', KEYS[2], 'workers', is.name)
         end
     end
     return {time_of_reply, found, 0}"
));

/// Keys: own, stream, meta. Shard, term and worker, worker, id, 1 if it had failed.
pub(super) static AGAIN: Script = Script::new(concat!(
    mine!(),
    "local claimed = redis.pcall('XCLAIM', KEYS[2], 'workers', ARGV[3], 0, ARGV[4])
     if ARGV[5] == '1' and #claimed > 0 then redis.call('HINCRBY', KEYS[3], 'retries', 1) end
     return 1"
));

/// Keys: own, stream, meta, pending, entries. Shard, term and worker, how many ids, the ids; for each entry the
/// number of the last of these writes that stored it; in a cluster, where the entries aren't given, then their
/// names, and nothing is done to them here.
///
/// Gives which of the entries aren't pending any more, from 1.
pub(super) static SETTLE: Script = Script::new(concat!(
    mine!(),
    drop_entry!(),
    "local final, gone = 3 + ARGV[3], 0
     for from = 4, final, 1000 do
         local to = math.min(from + 999, final)
         redis.call('XACK', KEYS[2], 'workers', unpack(ARGV, from, to))
         gone = gone + redis.call('XDEL', KEYS[2], unpack(ARGV, from, to))
     end
     if gone > 0 then redis.call('HINCRBY', KEYS[3], 'count', -gone) end
     local over, apart, many = {}, #KEYS == 4, #KEYS - 4
     if apart then many = (#ARGV - final) / 2 end
     for n = 1, many do
         local key = apart and ARGV[final + many + n] or KEYS[4 + n]
         local mark = redis.call('HGET', KEYS[4], key)
         local of, seq = tonumber(string.sub(mark or '', 1, 16)) or 0, tonumber(ARGV[final + n])
         if of <= seq then
             local head = ''
             if of == seq then head = string.sub(mark, 18, 17 + (string.byte(mark, 17) or 0)) end
             if mark then redis.call('HDEL', KEYS[4], key) end
             if not apart then drop(key, head) end
             over[#over + 1] = n
         end
     end
     return over"
));

/// Keys: own, stream, meta, pending, dead, entries. Shard, term and worker, id, how many letters there may be,
/// number, cause, attempts; in a cluster the names of the entries, as for `SETTLE`.
///
/// Gives 0 if there is no room, else which of the entries aren't pending any more.
pub(super) static BURY: Script = Script::new(concat!(
    mine!(),
    drop_entry!(),
    "redis.call('HDEL', KEYS[1], '')
     local entry = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])[1]
     if entry then
         if redis.call('XLEN', KEYS[5]) >= tonumber(ARGV[4]) then return 0 end
         local fields, letter = entry[2], {'seq', ARGV[5], 'cause', ARGV[6], 'attempts', ARGV[7]}
         for at = 1, #fields, 2 do
             if fields[at] ~= 'seq' then
                 letter[#letter + 1] = fields[at]
                 letter[#letter + 1] = fields[at + 1]
             end
         end
         redis.call('XADD', KEYS[5], '*', unpack(letter))
     end
     redis.call('XACK', KEYS[2], 'workers', ARGV[3])
     local gone = redis.call('XDEL', KEYS[2], ARGV[3])
     if gone > 0 then redis.call('HINCRBY', KEYS[3], 'count', -gone) end
     local over, apart, many = {}, #KEYS == 5, #KEYS - 5
     if apart then many = #ARGV - 7 end
     for n = 1, many do
         local key = apart and ARGV[7 + n] or KEYS[5 + n]
         local mark = redis.call('HGET', KEYS[4], key)
         if (tonumber(string.sub(mark or '', 1, 16)) or 0) <= tonumber(ARGV[5]) then
             if mark then redis.call('HDEL', KEYS[4], key) end
             if not apart then drop(key, '') end
             over[#over + 1] = n
         end
     end
     return over"
));

/// Key: an entry, which is removed, but for a fence.
pub(in crate::store::redis) static DROP: Script = Script::new(concat!(
    drop_entry!(),
    "drop(KEYS[1], '')
     return 1"
));

/// Keys: meta, workers, dead, streams. Shards. Nothing is written.
pub(super) static FIGURES: Script = Script::new(concat!(
    "local known = redis.call('HMGET', KEYS[1], 'shards', 'retries')
     ",
    shards!("known[1]"),
    now!(),
    "local pending, oldest = 0, -1
     for at = 4, 3 + shards do
         pending = pending + redis.call('XLEN', KEYS[at])
         local entry = redis.call('XRANGE', KEYS[at], '-', '+', 'COUNT', 1)[1]
         if entry then
             local seq, fields = tonumber(string.match(entry[1], '^%d+')), entry[2]
             for n = 1, #fields, 2 do
                 if fields[n] == 'seq' then seq = tonumber(fields[n + 1]) or seq end
             end
             oldest = math.max(oldest, now - seq, 0)
         end
     end
     local workers = redis.call('ZCOUNT', KEYS[2], string.format('%.0f', math.floor(now / 1000)), '+inf')
     return {1, pending, oldest, redis.call('XLEN', KEYS[3]), tonumber(known[2]) or 0, workers}"
));

/// Keys: meta, dead, streams. Shards, shard, id.
pub(super) static REPLAY: Script = Script::new(concat!(
    "local known = redis.call('HMGET', KEYS[1], 'shards', 'last')
     ",
    shards!("known[1]"),
    "local letter = redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3])[1]
     if not letter then return {0} end
     ",
    now!(),
    highest!(),
    "local last = math.max(tonumber(known[2]) or 0, highest(3, 2 + shards))
     local seq, fields = string.format('%.0f', math.max(now, last + 1)), {}
     for at = 1, #letter[2], 2 do
         local name = letter[2][at]
         if name ~= 'cause' and name ~= 'attempts' then
             fields[#fields + 1] = name
             fields[#fields + 1] = letter[2][at + 1]
         end
     end
     redis.call('XADD', KEYS[3 + ARGV[2]], seq .. '-0', unpack(fields))
     redis.call('HSET', KEYS[1], 'shards', ARGV[1], 'last', seq)
     redis.call('HINCRBY', KEYS[1], 'count', 1)
     redis.call('XDEL', KEYS[2], ARGV[3])
     return {1}"
));
