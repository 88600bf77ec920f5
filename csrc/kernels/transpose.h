// Matrices turned over. Without a name outside of a file: each instruction set compiles its own.
#pragma once

#include <cstdint>

namespace zoo {
namespace {

// to[j * to_stride + i] = from[i * from_stride + j] for i < rows and j < columns
template <typename T>
inline void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t rows,
                      int64_t columns) {
  int64_t done = 0;                         // rows
#if __has_builtin(__builtin_shufflevector)  // GCC 12, clang
  if constexpr (sizeof(T) == 4) {           // four by four
    using Four [[gnu::vector_size(16)]] = T;
    for (; done + 4 <= rows; done += 4) {
      int64_t j = 0;
      for (; j + 4 <= columns; j += 4) {
        const T* const p = from + done * from_stride + j;
        T* const q = to + j * to_stride + done;
        Four a, b, c, d;
        __builtin_memcpy(&a, p, 16);
        __builtin_memcpy(&b, p + from_stride, 16);
        __builtin_memcpy(&c, p + 2 * from_stride, 16);
        __builtin_memcpy(&d, p + 3 * from_stride, 16);
        const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const Four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const Four cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
        b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
        c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
        d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
        __builtin_memcpy(q, &a, 16);
        __builtin_memcpy(q + to_stride, &b, 16);
        __builtin_memcpy(q + 2 * to_stride, &c, 16);
        __builtin_memcpy(q + 3 * to_stride, &d, 16);
      }
      for (; j < columns; ++j) {
        for (int64_t i = done; i < done + 4; ++i) to[j * to_stride + i] = from[i * from_stride + j];
      }
    }
  }
#endif
  for (int64_t i = done; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
  }
}

}  // namespace
}  // namespace zoo
