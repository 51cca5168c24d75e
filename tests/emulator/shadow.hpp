// What is remembered of every two bytes of memory, and when one access comes before another.
//
// Time is a count of synchronisations. A thread's stamp is the time of the last one it took part in,
// and a record is the stamp, the thread and the instruction of an access. An earlier access happened
// before the present one exactly if a synchronisation lies between that both threads took part in:
// that is a comparison of stamps, and depends on who synchronised with whom, never on the order in
// which the schedule ran the threads. So a race shows under every schedule.
//
// Three records for two bytes are enough to miss none:
//   written  the last write (with the last stamp of all: an asynchronous copy still under way). Whatever is ordered after it is ordered after all writes before it, or a
//            race was reported then.
//   read     the last read since.
//   other    a read by somebody else than `read`, if `read` says so (OTHERS): of another warp if there
//            was one (then no thread of the block may write before the next barrier), else of another
//            lane. Reads of two blocks need no second record: any write in that launch is a race.
#pragma once

#include <stdint.h>

namespace headlight {

// stamp 27 | slot 1 | thread 10 | flags 4 | instruction 22
using Record = uint64_t;

constexpr int CODE_BITS = 22, FLAG_BITS = 4, THREAD_BITS = 10, SLOT_BITS = 1;
constexpr int THREAD_SHIFT = CODE_BITS + FLAG_BITS;
constexpr int SLOT_SHIFT = THREAD_SHIFT + THREAD_BITS;
constexpr int STAMP_SHIFT = SLOT_SHIFT + SLOT_BITS;
constexpr uint64_t LAST_STAMP = (uint64_t(1) << (64 - STAMP_SHIFT)) - 1;
constexpr Record CODE_MASK = (Record(1) << CODE_BITS) - 1;

// Flags of a write.
constexpr Record ATOMIC = Record(1) << CODE_BITS;
constexpr Record MANY = Record(1) << (CODE_BITS + 1);     // atomics of several threads, unordered
constexpr Record WIDE = Record(1) << (CODE_BITS + 2);     // and of several warps
constexpr Record FOREIGN = Record(1) << (CODE_BITS + 3);  // and of several blocks
// Flags of a read.
constexpr Record OTHERS = Record(1) << CODE_BITS;        // `other` is valid
constexpr Record WARPS = Record(1) << (CODE_BITS + 1);   // and of another warp

// Writes that no kernel made; smaller than any record.
constexpr Record FORBIDDEN = 0;  // not allocated, or freed
constexpr Record UNWRITTEN = 1;  // allocated, and nothing stored there yet
constexpr Record COPIED = 2;     // stored by the host

inline uint32_t thread_of(Record r) { return uint32_t(r >> THREAD_SHIFT) & 1023; }
inline uint32_t stamp_of(Record r) { return uint32_t(r >> STAMP_SHIFT); }
inline Record floor_of(uint64_t stamp) { return Record(stamp) << STAMP_SHIFT; }

}  // namespace headlight
