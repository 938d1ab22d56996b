-- One account that several gateways share: what of its tokens is taken, what of its money is spent and reserved.
--
-- KEYS  sums, open, live, lost, done: all of one owner, so that a cluster keeps them together.
--   sums  a hash: the account itself; and for each process `of.<process>`: until when that is kept, what it added last, its writes
--   open  a hash: reservation -> what is reserved
--   live  a sorted set: process -> the millisecond until which its reservations hold
--   lost  a hash: reservations that outlived their process, for one that ends after all: what was reserved, and until when that is kept
--   done  a sorted set: reservations that have ended -> the millisecond until which that is remembered
-- ARGV  1 verb: reserve, settle, look, renew or add
--       2 reservation (<process>-<turn>.<number>); else the process, with its turn where it renews; or nothing
--       3 what the gateway knows: `epoch seq writes now day week month spent spent spent spent full.us full.rest`, or nothing;
--         where that is of a young epoch, once more what it knew of the one before, of which answers may still come
--       4, 5 the rate: tokens per microseconds, or 0
--       6, 7 the budget: 1 day, 2 week, 3 month, 4 for ever, or 0; its amount
--       8 money, 9 and 10 tokens: microseconds of the rate, and what is over in 1 / tokens of one
--       11 settle: the epoch of the reservation; add: its number
--       12, 13, 14 settle, add: day, week and month of the admission
-- Returns 0, or why not: 1 money is short, 2 tokens are short, 3 it has been done before; then the account, see the end.
--
-- A command applies once, however often it comes. Time is that of the server. Money is a whole number of 10^-10 USD in two parts, the USD
-- and the rest, because the numbers of Lua are exact up to 2^53 only; all else is a whole number below that.
--
-- `seq` counts the writes of an epoch, and each process has a count of its own. What a gateway knows it has heard from here: if that is
-- more than there is, the store has come back older than it was (from a snapshot, or as a replica that was behind). What was reserved
-- then is nobody's, and a new epoch begins, in which the gateways tell what they know. The count of a process finds what is lost of its
-- own also where others have written more since. A process that was silent for long is forgotten, and takes its count up again where it
-- was: `forgotten` is until when the last of these was kept, and who cannot be one of them is not taken for one.

local sums, open, live, lost, done = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local verb, id = ARGV[1], ARGV[2]
local number = tonumber
local floor = math.floor

local HOLDS = 30000            -- milliseconds until the reservations of a silent process are lost
local REMEMBERED = 60000       -- milliseconds for which an end is remembered
local LATE = 3600              -- seconds for which what was lost may still end
local KEPT = 40 * 86400        -- seconds for which an account without a prepaid budget is kept
local PEER = 86400000          -- milliseconds for which a silent process is remembered; for KEPT more where it has added
local LOWS = 32                -- lows that are kept apart
local MOST = 4503599627370496  -- 2^52: microseconds until all is there again, at most
local ONE = 10000000000        -- units of one USD

-- Money.

local function money(text)
  text = text or '0'
  if #text <= 10 then return {0, number(text)} end
  return {number(text:sub(1, -11)), number(text:sub(-10))}
end

local function text(m)
  if m[1] == 0 then return string.format('%.0f', m[2]) end
  return string.format('%.0f%010.0f', m[1], m[2])
end

local function less(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end

local function plus(a, b)
  local whole, rest = a[1] + b[1], a[2] + b[2]
  if rest >= ONE then whole, rest = whole + 1, rest - ONE end
  -- The most that 63 bits hold.
  if whole >= 922337203 then return {922337203, 0} end
  return {whole, rest}
end

-- At least nothing.
local function minus(a, b)
  if not less(b, a) then return {0, 0} end
  local whole, rest = a[1] - b[1], a[2] - b[2]
  if rest < 0 then whole, rest = whole - 1, rest + ONE end
  return {whole, rest}
end

local function times(m, count)
  local rest = m[2] * count
  local over = floor(rest / ONE)
  return {m[1] * count + over, rest - over * ONE}
end

-- Time.

local clock = redis.call('TIME')
local now = number(clock[1]) * 1000000 + number(clock[2])
local milli = floor(now / 1000)

-- The numbers of the day, the week (from Monday) and the month, since 1970. Howard Hinnant's civil_from_days.
local function dates(second)
  local day = floor(second / 86400)
  local at = day + 719468
  local era = floor(at / 146097)
  local of = at - era * 146097
  local year = floor((of - floor(of / 1460) + floor(of / 36524) - floor(of / 146096)) / 365)
  local rest = of - (365 * year + floor(year / 4) - floor(year / 100))
  local month = (era * 400 + year) * 12 + floor((5 * rest + 2) / 153) - 23638
  return {day, floor((day + 3) / 7), month}
end

-- The account.

local FIELDS = {
  'epoch', 'day', 'week', 'month',
  'spent.day', 'spent.week', 'spent.month', 'spent.ever',
  'reserved.day', 'reserved.week', 'reserved.month', 'reserved.ever',
  'base.day', 'base.week', 'base.month', 'base.ever',
  'full.us', 'full.rest', 'rate.tokens', 'rate.us', 'rate.turn', 'taken', 'lows', 'seq', 'now', 'forgotten',
}
local process = id:match('^[^.-]+')
-- What the account has of the process that asks.
local mine = process and 'of.' .. process
local words = {unpack(FIELDS)}
words[#words + 1] = mine
local at = redis.call('HMGET', sums, unpack(words))
local today = dates(number(clock[1]))
local epoch, seq = number(at[1] or now), number(at[24] or 0)
local peer = {}
for word in (at[27] or ''):gmatch('%d+') do peer[#peer + 1] = number(word) end
local added, writes, forgotten = peer[2] or 0, peer[3] or 0, number(at[26] or 0)
-- It was forgotten, and is known again.
local again = false
local date, spent, reserved, base = {}, {}, {}, {}
-- A look alone makes no account.
local changed = not at[1] and verb ~= 'look' and verb ~= 'renew'
for i = 1, 4 do
  spent[i], reserved[i], base[i] = money(at[4 + i]), money(at[8 + i]), money(at[12 + i])
end
-- A window's number never goes back: a clock that does finds the one that was open before.
local function opens(i, day)
  if day > date[i] then
    date[i], spent[i], reserved[i], base[i] = day, {0, 0}, {0, 0}, {0, 0}
    changed = changed or at[1]
  end
end
for i = 1, 3 do
  date[i] = number(at[1 + i] or 0)
  opens(i, today[i])
end
local us, rest = number(at[17] or 0), number(at[18] or 0)
local rate = {number(at[19] or 0), number(at[20] or 0)}
local turn, taken, lows = number(at[21] or 0), number(at[22] or 0), at[23] or ''
-- Nor does time give or take any tokens where it goes back.
us = math.max(0, us - math.max(0, number(at[25] or 0) - now))

local asked = {number(ARGV[4]), number(ARGV[5])}

-- What a gateway knows of an account that is older than this one: the store has forgotten it, and it goes on from there.
local function hear(known)
  local told_epoch = number(known[1])
  -- It has heard that there was no account.
  if number(known[2]) == 0 then return end
  -- Who was heard at that moment was kept for half of its time from then, at least.
  if told_epoch == epoch and at[1] and not peer[1] and floor(number(known[4]) / 1000) + PEER / 2 <= forgotten then
    again, writes = true, math.max(writes, number(known[3]))
  end
  local lost_some = told_epoch > epoch or told_epoch == epoch and (number(known[2]) > seq or number(known[3]) > writes)
  if lost_some then
    -- A clock that was set back begins no epoch that was there before.
    epoch, seq, changed = math.max(now, told_epoch + 1), 0, true
    redis.call('DEL', open, live)
    for i = 1, 4 do reserved[i], base[i] = {0, 0}, spent[i] end
    turn, lows = turn + 1, ''
  elseif told_epoch == epoch then
    return
  end
  changed = changed or not at[1]
  for i = 1, 4 do
    local told = money(known[7 + i])
    if i < 4 then opens(i, number(known[4 + i])) end
    if (i == 4 or number(known[4 + i]) == date[i]) and less(base[i], told) then
      spent[i], base[i], changed = plus(spent[i], minus(told, base[i])), told, true
    end
  end
  local full = number(known[12]) - math.max(0, number(known[4]) - now)
  if full > us then
    us, rest, changed = full, number(known[13]), true
    -- It is told in the rate that is asked for.
    if asked[1] > 0 then rate, turn, lows = {asked[1], asked[2]}, turn + 1, '' end
  end
end

local known = {}
for word in ARGV[3]:gmatch('%d+') do
  known[#known + 1] = word
  if #known == 13 then
    hear(known)
    known = {}
  end
end

local function counts(of, i) return i == 4 or of[i] == date[i] end

local function settle_money(of, was, is)
  for i = 1, 4 do
    if counts(of, i) then
      reserved[i] = minus(reserved[i], was)
      spent[i] = plus(spent[i], is)
    end
  end
end

-- Tokens: GCRA. `us` and `rest` are the moment at which all is there again; a microsecond is `rate[1]` rests.

if asked[1] > 0 and (asked[1] ~= rate[1] or asked[2] ~= rate[2]) then
  if rate[1] > 0 and us > now and asked[2] == rate[2] then
    -- What was taken of a period stays taken.
    us, rest = now + math.ceil((us + 1 - now) * rate[1] / asked[1]), 0
  else
    us, rest = math.min(us, now), 0
  end
  -- What was reserved before is not given back: it was measured by another rate.
  rate, turn, lows, changed = asked, turn + 1, '', true
end

local function levels()
  local all = {}
  for number_of, level in lows:gmatch('(%d+):(%d+)') do
    all[#all + 1] = {number(number_of), number(level)}
  end
  return all
end

local function keep_levels(all)
  local words = {}
  for i, low in ipairs(all) do words[i] = string.format('%.0f:%.0f', low[1], low[2]) end
  lows = table.concat(words, ' ')
end

-- How much is taken now.
local function level()
  if us < now then return 0, 0 end
  return us - now, rest
end

local function take(cost_us, cost_rest)
  local have_us, have_rest = level()
  taken = taken + 1
  if redis.call('HLEN', open) == 0 then
    lows = ''
  else
    -- Reservations that are not settled have to know how little was taken when others came.
    local all = levels()
    while #all > 0 and all[#all][2] >= have_us do all[#all] = nil end
    all[#all + 1] = {taken, have_us}
    if #all > LOWS then
      all[2][2] = all[1][2]
      table.remove(all, 1)
    end
    keep_levels(all)
  end
  us, rest = now + have_us + cost_us, have_rest + cost_rest
  if rest >= rate[1] then us, rest = us + 1, rest - rate[1] end
end

-- So much was really used: `number_of` is the reservation that took so much.
local function settle_tokens(number_of, turn_of, was_us, was_rest, is_us, is_rest)
  if number_of == 0 or turn_of ~= turn then return end
  local back_us, back_rest = was_us - is_us, was_rest - is_rest
  if back_rest < 0 then back_us, back_rest = back_us - 1, back_rest + rate[1] end
  if back_us < 0 then
    us, rest = us - back_us, rest - back_rest
    if rest < 0 then us, rest = us - 1, rest + rate[1] end
    return
  end
  if back_us == 0 and back_rest == 0 then return end
  local all = levels()
  local most = back_us + (back_rest > 0 and 1 or 0)
  -- Had the rest not been taken, what was taken when others came would have been that much less, but not less than nothing: so much
  -- of it was there again by then, and is nobody's.
  for _, low in ipairs(all) do
    if low[1] > number_of then
      if low[2] <= back_us then back_us, back_rest = low[2], 0 end
      low[2] = math.max(0, low[2] - most)
    end
  end
  keep_levels(all)
  us, rest = us - back_us, rest - back_rest
  if rest < 0 then us, rest = us - 1, rest + rate[1] end
end

-- Reservations.

local function record(of)
  local words = {}
  for word in of:gmatch('%d+') do words[#words + 1] = word end
  return {
    date = {number(words[1]), number(words[2]), number(words[3])},
    money = money(words[4]),
    us = number(words[5]), rest = number(words[6]), number = number(words[7]), turn = number(words[8]),
    until_milli = number(words[9] or 0),
  }
end

-- Those of a process that has been silent for too long are charged as they stand.
local reaped = 0

-- What was lost is kept for its time, however many come after it.
local function prune_lost()
  local all = redis.call('HGETALL', lost)
  for i = 1, #all, 2 do
    if record(all[i + 1]).until_milli <= milli then redis.call('HDEL', lost, all[i]) end
  end
end

local function reap()
  local silent = redis.call('ZRANGEBYSCORE', live, '-inf', milli)
  if #silent == 0 then return end
  prune_lost()
  local is = {}
  for _, process in ipairs(silent) do
    is[process] = true
  end
  local all = redis.call('HGETALL', open)
  for i = 1, #all, 2 do
    if is[all[i]:match('^[^.]+')] then
      local of = record(all[i + 1])
      -- A script that fails is not rolled back: what may fail comes before anything is taken away.
      redis.call('HSET', lost, all[i], string.format('%s %.0f', all[i + 1], milli + LATE * 1000))
      redis.call('HDEL', open, all[i])
      settle_money(of.date, of.money, of.money)
      reaped, changed = reaped + 1, true
    end
  end
  if reaped > 0 then redis.call('EXPIRE', lost, LATE) end
  for process in pairs(is) do redis.call('ZREM', live, process) end
end

local function remember(milliseconds)
  redis.call('ZREMRANGEBYSCORE', done, '-inf', milli)
  redis.call('ZADD', done, milli + milliseconds, id)
  if redis.call('PTTL', done) < milliseconds then redis.call('PEXPIRE', done, milliseconds) end
end

-- Whether it has ended, as far as that is remembered.
local function has_ended()
  local until_milli = redis.call('ZSCORE', done, id)
  return until_milli and number(until_milli) > milli
end

local function renew(holder)
  redis.call('ZADD', live, milli + HOLDS, holder)
  redis.call('EXPIRE', live, KEPT)
end

local period = number(ARGV[6])
local amount = money(ARGV[7])
local function spent_now() return period > 0 and spent[period] or {0, 0} end
local before = spent_now()
reap()

-- The verbs.

local function reserve(cost, cost_us, cost_rest)
  if has_ended() then return 3 end
  if redis.call('HEXISTS', open, id) == 1 then return 0 end
  if period > 0 then
    local left = minus(amount, plus(spent[period], reserved[period]))
    -- What costs nothing is served until all is spent.
    if less(left, cost) or not less({0, 0}, left) then return 1 end
  end
  local of = {0, 0, 0, turn}
  if asked[1] > 0 then
    local have_us, have_rest = level()
    local sum_us, sum_rest = have_us + cost_us, have_rest + cost_rest
    if sum_rest >= rate[1] then sum_us, sum_rest = sum_us + 1, sum_rest - rate[1] end
    if sum_us > rate[2] or sum_us == rate[2] and sum_rest > 0 then return 2 end
    take(cost_us, cost_rest)
    of = {cost_us, cost_rest, taken, turn}
  end
  for i = 1, 4 do reserved[i] = plus(reserved[i], cost) end
  redis.call('HSET', open, id, string.format('%.0f %.0f %.0f %s %.0f %.0f %.0f %.0f',
    date[1], date[2], date[3], text(cost), of[1], of[2], of[3], of[4]))
  redis.call('EXPIRE', open, KEPT)
  renew(id:match('^[^.]+'))
  changed = true
  return 0
end

local function settle(cost, cost_us, cost_rest, epoch_of, date_of)
  local of = redis.call('HGET', open, id)
  if of then
    of = record(of)
    settle_money(of.date, of.money, cost)
    settle_tokens(of.number, of.turn, of.us, of.rest, cost_us, cost_rest)
    redis.call('HDEL', open, id)
    -- One that was lost and asked for once more ends once.
    redis.call('HDEL', lost, id)
    remember(REMEMBERED)
    changed = true
    return 0
  end
  of = redis.call('HGET', lost, id)
  of = of and record(of)
  if of and of.until_milli > milli then
    -- It was charged with all that was reserved, and has ended after all.
    for i = 1, 4 do
      if counts(of.date, i) then spent[i] = plus(minus(spent[i], of.money), cost) end
    end
    redis.call('HDEL', lost, id)
    remember(REMEMBERED)
    changed = true
    return 0
  end
  if has_ended() then return 3 end
  if epoch_of > 0 and epoch_of ~= epoch then
    -- The store has forgotten the reservation, not the gateway.
    for i = 1, 4 do
      if counts(date_of, i) then spent[i] = plus(spent[i], cost) end
    end
    remember(LATE * 1000 * 24)
    changed = true
    return 0
  end
  -- One that was never admitted may be on its way still.
  remember(REMEMBERED)
  return 3
end

-- What was spent elsewhere, or less than was said.
local function add(cost, sign, cost_us, cost_rest, batch, date_of)
  if added >= batch then return 3 end
  added = batch
  for i = 1, 4 do
    if i == 4 or date_of[i] >= date[i] then
      if sign > 0 then spent[i] = plus(spent[i], cost) else spent[i] = minus(spent[i], cost) end
    end
  end
  if asked[1] > 0 and cost_us + cost_rest > 0 then take(cost_us, cost_rest) end
  changed = true
  return 0
end

local cost = (ARGV[8] or ''):gsub('^-', '')
local sign = ARGV[8] and ARGV[8]:sub(1, 1) == '-' and -1 or 1
cost = money(cost ~= '' and cost or nil)
local cost_us, cost_rest = number(ARGV[9] or 0), number(ARGV[10] or 0)
local date_of = {number(ARGV[12] or 0), number(ARGV[13] or 0), number(ARGV[14] or 0)}
local code
if verb == 'reserve' then
  code = reserve(cost, cost_us, cost_rest)
elseif verb == 'settle' then
  code = settle(cost, cost_us, cost_rest, number(ARGV[11]), date_of)
elseif verb == 'add' then
  code = add(cost, sign, cost_us, cost_rest, number(ARGV[11]), date_of)
else
  if verb == 'renew' then renew(id) end
  code = 0
end

-- The highest share of the budget that is spent now and was not before.
local crossed = 0
if period > 0 and less(before, spent_now()) then
  for _, percent in ipairs({50, 80, 100}) do
    local all = times(amount, percent)
    if not less(times(spent_now(), 100), all) and less(times(before, 100), all) then crossed = percent end
  end
end

-- No report is so large that numbers beyond it cease to be whole.
if us > now + MOST then us, rest = now + MOST, 0 end
us, rest = math.max(0, us), math.max(0, rest)

-- Those that have been silent for long are forgotten when a new one comes; much later those that have added: who has not heard that it
-- did adds the same once more.
local function forget_peers()
  local all = redis.call('HGETALL', sums)
  for i = 1, #all, 2 do
    if all[i]:match('^of%.') then
      local kept, has_added = all[i + 1]:match('^(%d+) (%d+)')
      if number(kept) + (has_added == '0' and 0 or KEPT * 1000) <= milli then
        redis.call('HDEL', sums, all[i])
        forgotten = math.max(forgotten, number(kept))
      end
    end
  end
end

if changed then
  seq = seq + 1
  if mine then
    writes = writes + 1
    if not peer[1] then forget_peers() end
  end
end
-- Who only looks is kept, too.
if mine and (changed or again or peer[1] and peer[1] - milli < PEER / 2) then
  redis.call('HSET', sums, mine, string.format('%.0f %.0f %.0f', milli + PEER, added, writes))
end
if changed then
  local pairs_of = {}
  local function put(i, value)
    pairs_of[#pairs_of + 1] = FIELDS[i]
    pairs_of[#pairs_of + 1] = value
  end
  local function whole(value) return string.format('%.0f', value) end
  put(1, whole(epoch))
  for i = 1, 3 do put(1 + i, whole(date[i])) end
  for i = 1, 4 do
    put(4 + i, text(spent[i]))
    put(8 + i, text(reserved[i]))
    put(12 + i, text(base[i]))
  end
  for i, value in ipairs({us, rest, rate[1], rate[2], turn, taken}) do put(16 + i, whole(value)) end
  put(23, lows)
  put(24, whole(seq))
  put(25, whole(now))
  put(26, whole(forgotten))
  redis.call('HSET', sums, unpack(pairs_of))
  if period == 4 then redis.call('PERSIST', sums) else redis.call('EXPIRE', sums, KEPT) end
end

local held = period > 0 and reserved[period] or {0, 0}
return {
  code, epoch, seq, writes, now, date[1], date[2], date[3],
  spent[1][1], spent[1][2], spent[2][1], spent[2][2], spent[3][1], spent[3][2], spent[4][1], spent[4][2],
  held[1], held[2], us, rest, crossed, reaped,
}
