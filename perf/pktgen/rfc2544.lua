-- Throughput by RFC 2544 section 26.1: for each frame size the highest rate, in percent of the line, at which a trial loses
-- nothing. One direction: port 0 sends the flows of nat-64b.pkt, port 1 counts what has come through the gateway.
-- Load ports.pkt and nat-64b.pkt first.

local SENDER, RECEIVER = "0", "1"
local SIZES = { 64, 128, 256, 512, 1024, 1280, 1518 }
local TRIAL, SETTLE = 60000, 2000 -- milliseconds
local PRECISION = 0.5 -- percent of the line
local RESULT = "rfc2544.txt"

local function counted(port)
    return pktgen.portStats(port)[tonumber(port)].curr
end

-- Frames that were sent and that have come, after what was under way has arrived.
local function trial(rate)
    pktgen.set(SENDER, "rate", rate)
    pktgen.clr()
    pktgen.delay(SETTLE)
    pktgen.start(SENDER)
    pktgen.delay(TRIAL)
    pktgen.stop(SENDER)
    pktgen.delay(SETTLE)
    return counted(SENDER).opackets, counted(RECEIVER).ipackets
end

-- What the gateway says of itself (ARP) comes in too: a few frames more than were sent are no error.
local function search()
    local low, high, frames = 0, 100, 0
    local rate = high
    while high - low > PRECISION do
        local sent, received = trial(rate)
        print(string.format("  %6.2f %%: %d sent, %d received", rate, sent, received))
        if sent > 0 and received >= sent then
            low, frames = rate, sent
            if rate == 100 then break end
        else
            high = rate
        end
        rate = (low + high) / 2
    end
    return low, frames
end

local file = assert(io.open(RESULT, "w"))
for _, size in ipairs(SIZES) do
    for _, what in ipairs({ "start", "min", "max" }) do
        pktgen.range.pkt_size(SENDER, what, size)
    end
    -- Every flow is opened, and neighbors find each other, before anything counts.
    pktgen.set(SENDER, "rate", 1)
    pktgen.start(SENDER)
    pktgen.delay(SETTLE)
    pktgen.stop(SENDER)
    local rate, frames = search()
    file:write(string.format("%d bytes: %.2f %% of the line, %.0f frames/s\n", size, rate, frames * 1000 / TRIAL))
    file:flush()
end
file:close()
