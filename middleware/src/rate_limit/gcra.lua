-- GCRA for one key and all its quotas, which decide as one, in the time of the server.
--
-- KEYS     for each quota: 'time spent parts', when it was written and what was spent then.
-- ARGV[1]  how many requests to count, at most.
-- ARGV[2]  when it was, in this time, that so much was spent as is said below; then for each quota:
--          requests per period; what one costs; what may be spent at once; what was spent at least;
--          how many requests are given back; what was spent elsewhere.
-- Answers  how many were counted; if none, for how long and for which quota to wait; the time; for each quota what is spent now.
--
-- Times are whole microseconds and, where they come in two, parts of one: as many as there are requests per period. So all of it is in
-- whole numbers, none above 2^53.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local granted = tonumber(ARGV[1])
local since_known = math.max(0, now - tonumber(ARGV[2]))
local quotas = {}

local function cost(quota, number)
    local parts = number * quota.step_parts
    return number * quota.step + math.floor(parts / quota.count), parts % quota.count
end

local function fits(quota, number)
    local whole, parts = cost(quota, number)
    return whole < quota.left or (whole == quota.left and parts <= quota.left_parts)
end

for at = 1, #KEYS do
    local function arg(number)
        return tonumber(ARGV[2 + (at - 1) * 8 + number])
    end
    local quota = { count = arg(1), step = arg(2), step_parts = arg(3), room = arg(4), room_parts = arg(5) }
    local least, back, owed = arg(6) - since_known, arg(7), arg(8)
    local spent, parts = 0, 0
    -- What is of another type was not written here, and is written over.
    local had = redis.pcall('GET', KEYS[at])
    if type(had) == 'string' then
        local since, whole, rest = string.match(had, '^(%d+) (%d+) (%d+)$')
        if since then
            -- A clock that was set back gives nothing back.
            spent, parts = tonumber(whole) - math.max(0, now - tonumber(since)), tonumber(rest)
            if spent < 0 then
                spent, parts = 0, 0
            end
        end
    end
    if spent < least then
        spent, parts = least, 0
    end
    if back > 0 then
        local whole, rest = cost(quota, back)
        spent, parts = spent - whole, parts - rest
        if parts < 0 then
            spent, parts = spent - 1, parts + quota.count
        end
        if spent < 0 then
            spent, parts = 0, 0
        end
    end
    -- Never so much that it takes longer than twice the room to be there again.
    spent = math.min(spent + owed, 2 * quota.room)
    quota.spent, quota.parts = spent, parts
    quota.left, quota.left_parts = quota.room - spent, quota.room_parts - parts
    if quota.left_parts < 0 then
        quota.left, quota.left_parts = quota.left - 1, quota.left_parts + quota.count
    end
    quotas[at] = quota
    local number = 0
    if quota.left >= 0 then
        local left = quota.left + quota.left_parts / quota.count
        number = math.min(granted, math.floor(left / (quota.step + quota.step_parts / quota.count)))
        while number < granted and fits(quota, number + 1) do
            number = number + 1
        end
        while number > 0 and not fits(quota, number) do
            number = number - 1
        end
    end
    granted = math.min(granted, number)
end

local wait, which = 0, 0
local answer = { granted, 0, 0, now }
for at = 1, #KEYS do
    local quota = quotas[at]
    local whole, parts = cost(quota, math.max(granted, 1))
    if granted > 0 then
        quota.spent, quota.parts = quota.spent + whole, quota.parts + parts
        if quota.parts >= quota.count then
            quota.spent, quota.parts = quota.spent + 1, quota.parts - quota.count
        end
    else
        whole, parts = whole - quota.left, parts - quota.left_parts
        if parts < 0 then
            whole, parts = whole - 1, parts + quota.count
        end
        if parts > 0 then
            whole = whole + 1
        end
        if whole > wait then
            wait, which = whole, at - 1
        end
    end
    local text = string.format('%.0f %.0f %.0f', now, quota.spent, quota.parts)
    redis.call('SET', KEYS[at], text, 'PX', string.format('%.0f', math.ceil(quota.spent / 1000) + 1000))
    answer[3 + 2 * at] = quota.spent
    answer[4 + 2 * at] = quota.parts
end
answer[2], answer[3] = wait, which
return answer
