// The readout of f32 operands; readout_half.cu has that of 16-bit ones, readout.cuh the arithmetic.
//
// In this order, for V = ffma, split, tf32 (f32), bf16, f16:
//
//     kernel                    rows × columns   grid (x, y)
//     readout_wanted_V           16 × –          ⌈count / 16⌉
//     readout_scan_V_large      128 × 192        ⌈count / 128⌉, tiles
//     readout_scan_V_small       16 × 192        ⌈count / 16⌉, tiles
//     readout_merge               8 × –          ⌈count / 8⌉
//     readout_top                 8 × –          ⌈count / 8⌉
//
// with tiles = ⌈vocabulary / 192⌉; the last two are in readout_merge.cu. Both scans give the same bits.
// Registers, the most of sm_80 … 120 (nvcc 13.0; nothing spills): scan_large 255 (ffma), 247 (split), 217
// (others); scan_small 218 (ffma), 196 (others); wanted 150 (split), 61 (others).
// More than 48 KiB of shared memory must be allowed first.
#include "readout.cuh"

KERNEL(SMALL_THREADS, 4) readout_wanted_ffma(const __grid_constant__ WantedArgs<float> a) { wanted<Small<FFMA>>(a); }
KERNEL(LARGE_THREADS, 1) readout_scan_ffma_large(const __grid_constant__ ScanArgs<float> a) { scan<Large<FFMA>>(a); }
KERNEL(SMALL_THREADS, 1) readout_scan_ffma_small(const __grid_constant__ ScanArgs<float> a) { scan<Wide<FFMA>>(a); }

KERNEL(SMALL_THREADS, 4) readout_wanted_split(const __grid_constant__ WantedArgs<float> a) { wanted<Small<SPLIT>>(a); }
KERNEL(LARGE_THREADS, 1) readout_scan_split_large(const __grid_constant__ ScanArgs<float> a) { scan<Large<SPLIT>>(a); }
KERNEL(SMALL_THREADS, 1) readout_scan_split_small(const __grid_constant__ ScanArgs<float> a) { scan<Wide<SPLIT>>(a); }

KERNEL(SMALL_THREADS, 4) readout_wanted_tf32(const __grid_constant__ WantedArgs<float> a) { wanted<Small<TF32>>(a); }
KERNEL(LARGE_THREADS, 1) readout_scan_tf32_large(const __grid_constant__ ScanArgs<float> a) { scan<Large<TF32>>(a); }
KERNEL(SMALL_THREADS, 1) readout_scan_tf32_small(const __grid_constant__ ScanArgs<float> a) { scan<Wide<TF32>>(a); }
