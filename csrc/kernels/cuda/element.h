// The numbers that the CUDA kernels compute on, and 16 bytes of them: what a thread loads at once.
// Sums are always float.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
// What kernels consist of. Without nvcc it is plain C++, which tests/simt runs on the host.
#define ZOO_DEVICE __device__ __forceinline__
#define ZOO_UNROLL _Pragma("unroll")
#define ZOO_ROLLED _Pragma("unroll 1")
#else
#define ZOO_DEVICE inline
#define ZOO_UNROLL
#define ZOO_ROLLED
#endif

namespace zoo::cuda {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

#ifdef __CUDACC__

ZOO_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
ZOO_DEVICE float bits_float(uint32_t x) { return __uint_as_float(x); }
ZOO_DEVICE float to_float(Half x) { return __half2float(__ushort_as_half(x.bits)); }
ZOO_DEVICE float to_float(BFloat16 x) { return __bfloat162float(__ushort_as_bfloat16(x.bits)); }
ZOO_DEVICE void round_to(Half& to, float x) { to.bits = __half_as_ushort(__float2half_rn(x)); }
ZOO_DEVICE void round_to(BFloat16& to, float x) {
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

#else

inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float bits_float(uint32_t x) {
  float value;
  std::memcpy(&value, &x, sizeof value);
  return value;
}
inline float to_float(BFloat16 x) { return bits_float(static_cast<uint32_t>(x.bits) << 16); }
inline float to_float(Half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return bits_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // Inf and NaN
  // The exponent moves from bias 15 to 127 by a product, which is exact for subnormals too.
  const float magnitude = bits_float(rest << 13) * 0x1p112f;
  return bits_float(sign | float_bits(magnitude));
}
// To the nearest, ties to even.
inline void round_to(BFloat16& to, float x) {
  const uint32_t bits = float_bits(x);
  to.bits = static_cast<uint16_t>(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void round_to(Half& to, float x) {
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000;
  const float magnitude = bits_float(bits & 0x7fffffff);
  uint32_t rest;
  if (x != x) {
    rest = 0x7fff;
  } else if (magnitude >= 65520) {
    rest = 0x7c00;
  } else if (magnitude < 0x1p-14f) {  // subnormal: the sum's last bits are multiples of 2^-24
    rest = float_bits(magnitude + 0.5f) - float_bits(0.5f);
  } else {
    const uint32_t low = float_bits(magnitude);
    rest = (low - (112u << 23) + 0xfff + (low >> 13 & 1)) >> 13;
  }
  to.bits = static_cast<uint16_t>(sign | rest);
}

#endif

ZOO_DEVICE float to_float(float x) { return x; }
ZOO_DEVICE void round_to(float& to, float x) { to = x; }

template <typename T>
ZOO_DEVICE T from_float(float x) {
  T rounded;
  round_to(rounded, x);
  return rounded;
}

// 16 bytes in registers.
struct alignas(16) Bits128 {
  uint32_t word[4];
};

// The elements in 16 bytes: 4 of float, 8 of the others.
template <typename T>
struct Chunk {
  static constexpr int32_t kCount = 16 / sizeof(T);
  Bits128 bits;

  ZOO_DEVICE float get(int32_t i) const {
    if constexpr (sizeof(T) == 4) {
      return bits_float(bits.word[i]);
    } else {
      return to_float(T{static_cast<uint16_t>(bits.word[i / 2] >> i % 2 * 16)});
    }
  }
  // Into a chunk that was zero there.
  ZOO_DEVICE void set(int32_t i, T x) {
    if constexpr (sizeof(T) == 4) {
      bits.word[i] = float_bits(x);
    } else {
      bits.word[i / 2] |= static_cast<uint32_t>(x.bits) << i % 2 * 16;
    }
  }
};

struct alignas(16) Float4 {
  float value[4];
};

// The factors of a matrix product: the first is stored by rows, the second by columns.
enum class Role { a, b };

}  // namespace zoo::cuda
