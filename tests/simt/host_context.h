// The context on the host: what csrc/kernels/cuda/device_context.h is on the device. Matrices are
// spread over the lanes of a warp in an order that depends on the run's seed, as the device's order
// is none of a kernel's business.
#pragma once

#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "block.h"
#include "cuda/element.h"

namespace zoo::simt {

using cuda::Bits128;
using cuda::Float4;
using cuda::Role;

// kMatrices: whether half and bfloat16 go to the matrix units.
template <bool kMatrices>
class HostContext {
 public:
  template <typename T>
  static constexpr bool kHasMatrices = kMatrices && !std::is_same_v<T, float>;

  HostContext(Block& block, int32_t thread) : block_(block), thread_(thread) {}

  int32_t thread() const { return thread_; }
  int32_t block_x() const { return static_cast<int32_t>(block_.x); }
  int32_t block_y() const { return static_cast<int32_t>(block_.y); }
  int32_t block_z() const { return static_cast<int32_t>(block_.z); }

  template <typename S>
  S& shared() {
    return *static_cast<S*>(block_.shared(sizeof(S)));
  }
  void sync(const char* file = __builtin_FILE(), int32_t line = __builtin_LINE()) {
    block_.sync({file, line});
  }
  float shfl_xor(float x, int32_t mask, const char* file = __builtin_FILE(),
                 int32_t line = __builtin_LINE()) {
    Warp& warp = block_.warp(thread_);
    warp.lanes[lane()] = x;
    block_.sync_warp({file, line});
    const float other = warp.lanes[lane() ^ mask];
    block_.sync_warp({file, line});  // until then others read x
    return other;
  }

  Bits128 load16(const void* from) const {
    Bits128 bits;
    std::memcpy(&bits, aligned(from, 16), 16);
    return bits;
  }
  void store16(void* to, const Bits128& bits) const {
    aligned(to, 16);
    std::memcpy(to, &bits, 16);
  }
  Float4 load4(const float* from) const {
    Float4 x;
    std::memcpy(&x, aligned(from, 16), 16);
    return x;
  }
  void store4(float* to, const Float4& x) const {
    aligned(to, 16);
    std::memcpy(to, &x, 16);
  }

  template <typename T>
  void store_quad(T* to, const T* x) const {
    aligned(to, 4 * sizeof(T));
    std::memcpy(to, x, 4 * sizeof(T));
  }

  // A lane's 8 of the 256 elements.
  template <typename T, Role kRole>
  struct Matrix {
    static constexpr Role kIs = kRole;
    float value[8];
  };
  struct Sums {
    float value[8];
  };

  void clear(Sums& sums) const { sums = {}; }

  template <typename T, Role kRole>
  void load_matrix(Matrix<T, kRole>& matrix, const T* from, int32_t stride) const {
    aligned(from, 32);
    if (stride % 8 != 0) throw std::logic_error("a matrix's rows must be 16 bytes apart");
    for (int32_t i = 0; i < 8; ++i) {
      const int32_t e = element(lane(), i), outer = e / 16, inner = e % 16;
      matrix.value[i] = cuda::to_float(from[outer * stride + inner]);
    }
  }
  template <typename A, typename B>
  void multiply_add(Sums& sums, const A& a, const B& b, const char* file = __builtin_FILE(),
                    int32_t line = __builtin_LINE()) {
    static_assert(A::kIs == Role::a && B::kIs == Role::b);
    Warp& warp = block_.warp(thread_);
    for (int32_t i = 0; i < 8; ++i) {
      warp.a[element(lane(), i)] = a.value[i];
      warp.b[element(lane(), i)] = b.value[i];
    }
    block_.sync_warp({file, line});
    for (int32_t i = 0; i < 8; ++i) {
      const int32_t e = element(lane(), i);
      const float *row = warp.a + e / 16 * 16, *column = warp.b + e % 16 * 16;
      for (int32_t k = 0; k < 16; ++k) sums.value[i] += row[k] * column[k];
    }
    block_.sync_warp({file, line});
  }
  void store_sums(float* to, const Sums& sums, int32_t stride) const {
    aligned(to, 32);
    if (stride % 4 != 0) throw std::logic_error("rows of sums must be 16 bytes apart");
    for (int32_t i = 0; i < 8; ++i) {
      const int32_t e = element(lane(), i);
      to[e / 16 * stride + e % 16] = sums.value[i];
    }
  }

 private:
  int32_t lane() const { return thread_ % 32; }
  // Any odd factor and any summand make a permutation of 256.
  int32_t element(int32_t lane, int32_t i) const {
    const auto seed = static_cast<int32_t>(block_.seed() % 128);
    return ((lane * 8 + i) * (2 * seed + 1) + seed) % 256;
  }
  static const void* aligned(const void* at, std::uintptr_t bytes) {
    if (reinterpret_cast<std::uintptr_t>(at) % bytes != 0) {
      throw std::logic_error("an access that is not aligned");
    }
    return at;
  }

  Block& block_;
  int32_t thread_;
};

}  // namespace zoo::simt
