// The readout's kernels of 16-bit operands; readout.cu lists them all.
#include "readout.cuh"

KERNEL(SMALL_THREADS, 4) readout_wanted_bf16(const __grid_constant__ WantedArgs<bf16> a) { wanted<Small<BF16>>(a); }
KERNEL(LARGE_THREADS, 1) readout_scan_bf16_large(const __grid_constant__ ScanArgs<bf16> a) { scan<Large<BF16>>(a); }
KERNEL(SMALL_THREADS, 1) readout_scan_bf16_small(const __grid_constant__ ScanArgs<bf16> a) { scan<Wide<BF16>>(a); }

KERNEL(SMALL_THREADS, 4) readout_wanted_f16(const __grid_constant__ WantedArgs<f16> a) { wanted<Small<F16>>(a); }
KERNEL(LARGE_THREADS, 1) readout_scan_f16_large(const __grid_constant__ ScanArgs<f16> a) { scan<Large<F16>>(a); }
KERNEL(SMALL_THREADS, 1) readout_scan_f16_small(const __grid_constant__ ScanArgs<f16> a) { scan<Wide<F16>>(a); }
