// A kernel that does what a table says, so that tests can draw programs at random and compare what is
// reported with what should be.

#include "common.cuh"

// A word of the program: bits 0–1 nothing, read, write, atomic; bit 2 half a word instead of a whole
// one (then bit 3 which half); bits 4–5 what follows: nothing, a warp barrier, a block barrier; from
// bit 8 on the place.
template <class T>
DEVICE void follow(const uint32_t *program, uint32_t rounds, T *memory, uint32_t *sink) {
  uint32_t sum = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    const uint32_t word = program[(blockIdx.x * rounds + round) * 64 + threadIdx.x];
    const uint32_t operation = word & 3, place = word >> 8;
    uint16_t *half = reinterpret_cast<uint16_t *>(memory + place) + (word >> 3 & 1);
    if (operation == 1) sum += word & 4 ? *half : memory[place];
    if (operation == 2) {
      if (word & 4) {
        *half = uint16_t(round);
      } else {
        memory[place] = round;
      }
    }
    if (operation == 3) atomicAdd(&memory[place], 1u);
    const uint32_t then = word >> 4 & 3;
    if (then == 1) __syncwarp();
    if (then == 2) __syncthreads();
  }
  sink[blockIdx.x * 64 + threadIdx.x] = sum;
}

// launch: any grid, block 64
extern "C" __global__ void program_in_global(const uint32_t *program, uint32_t rounds,
                                             uint32_t *memory, uint32_t *sink) {
  follow(program, rounds, memory, sink);
}

extern "C" __global__ void program_in_shared(const uint32_t *program, uint32_t rounds,
                                             uint32_t *memory, uint32_t *sink) {
  __shared__ uint32_t words[64];
  words[threadIdx.x] = memory[threadIdx.x];
  __syncthreads();
  follow(program, rounds, words, sink);
}
