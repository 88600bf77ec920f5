// What every plan of a launch consists of. Plans are made on the host, without CUDA.
#pragma once

#include <cstdint>

#include "../params.h"

namespace zoo::cuda {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
  int32_t threads = 0;  // of a block

  int64_t blocks() const { return x * y * z; }
};

// What a launch can have.
constexpr int64_t kMostX = (int64_t{1} << 31) - 1, kMostYZ = 65535;
// Sizes of maps, windows and channels are ints in the kernels, and so are sums of two of them.
constexpr int64_t kMostSize = int64_t{1} << 28;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Whether pixels begin where 16 bytes can be loaded, and their channels follow each other.
// `count` is the number of elements in 16 bytes.
inline bool loads_chunks(const void* data, const Strides& s, int64_t count) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && s.c == 1 && s.n % count == 0 &&
         s.h % count == 0 && s.w % count == 0;
}

template <typename... Sizes>
bool fit(Sizes... sizes) {
  return ((sizes < kMostSize) && ...);
}

struct Window32 {
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

inline bool fits(const Window& w) {
  return fit(w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w, w.dilation_h,
             w.dilation_w) &&
         fit(w.kernel_h * w.dilation_h, w.kernel_w * w.dilation_w);
}

inline Window32 narrow(const Window& w) {
  const auto n = [](int64_t x) { return static_cast<int32_t>(x); };
  return {n(w.kernel_h), n(w.kernel_w), n(w.stride_h),   n(w.stride_w),
          n(w.pad_h),    n(w.pad_w),    n(w.dilation_h), n(w.dilation_w)};
}

}  // namespace zoo::cuda
