// The context on the device: every operation is an intrinsic, and nothing remains of the class.
// A kernel's body is a template on its context; tests/simt/host_context.h is the other one. Both
// offer:
//
//   thread()                 this thread's number in its block
//   block_x/y/z()            the block's place in the grid
//   shared<S>()              the block's shared memory, as one S of no initial value
//   sync()                   waits for all threads of the block
//   shfl_xor(x, mask)        the x of lane (lane ^ mask); all 32 lanes of the warp call it
//   load16, store16          16 bytes in global memory, aligned
//   store_quad(to, x)        4 elements to global memory, aligned to their size together
//   load4, store4            4 floats in shared memory, aligned to 16 bytes
//   kHasMatrices<T>          whether the warp can multiply 16x16 matrices of T, by:
//   Matrix<T, kRole>, Sums   what the 32 lanes hold of such a matrix, or of 16x16 sums
//   clear, load_matrix, multiply_add, store_sums    called by all lanes of the warp together
#pragma once

#include <mma.h>

#include "element.h"

namespace zoo::cuda {

template <typename T>
struct Native;
template <>
struct Native<Half> {
  using Type = __half;
};
template <>
struct Native<BFloat16> {
  using Type = __nv_bfloat16;
};

class DeviceContext {
 public:
  template <typename T>
  static constexpr bool kHasMatrices =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
      std::is_same_v<T, Half>;  // bfloat16 came with sm_80
#else
      !std::is_same_v<T, float>;
#endif

  ZOO_DEVICE int32_t thread() const { return static_cast<int32_t>(threadIdx.x); }
  ZOO_DEVICE int32_t block_x() const { return static_cast<int32_t>(blockIdx.x); }
  ZOO_DEVICE int32_t block_y() const { return static_cast<int32_t>(blockIdx.y); }
  ZOO_DEVICE int32_t block_z() const { return static_cast<int32_t>(blockIdx.z); }

  template <typename S>
  ZOO_DEVICE S& shared() {
    __shared__ __align__(128) unsigned char bytes[sizeof(S)];
    return *reinterpret_cast<S*>(bytes);
  }
  ZOO_DEVICE void sync() { __syncthreads(); }
  ZOO_DEVICE float shfl_xor(float x, int32_t mask) { return __shfl_xor_sync(~0u, x, mask); }

  ZOO_DEVICE Bits128 load16(const void* from) const {
    const uint4 x = __ldg(static_cast<const uint4*>(from));
    return {{x.x, x.y, x.z, x.w}};
  }
  ZOO_DEVICE void store16(void* to, const Bits128& x) const {
    *static_cast<uint4*>(to) = make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]);
  }
  ZOO_DEVICE Float4 load4(const float* from) const {
    const float4 x = *reinterpret_cast<const float4*>(from);
    return {{x.x, x.y, x.z, x.w}};
  }
  ZOO_DEVICE void store4(float* to, const Float4& x) const {
    *reinterpret_cast<float4*>(to) = make_float4(x.value[0], x.value[1], x.value[2], x.value[3]);
  }

  ZOO_DEVICE void store_quad(float* to, const float* x) const {
    *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
  }
  template <typename T>
  ZOO_DEVICE void store_quad(T* to, const T* x) const {
    *reinterpret_cast<ushort4*>(to) = make_ushort4(x[0].bits, x[1].bits, x[2].bits, x[3].bits);
  }

  template <typename T, Role kRole>
  using Matrix = nvcuda::wmma::fragment<
      std::conditional_t<kRole == Role::a, nvcuda::wmma::matrix_a, nvcuda::wmma::matrix_b>, 16, 16,
      16, typename Native<T>::Type,
      std::conditional_t<kRole == Role::a, nvcuda::wmma::row_major, nvcuda::wmma::col_major>>;
  using Sums = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;

  ZOO_DEVICE void clear(Sums& sums) const { nvcuda::wmma::fill_fragment(sums, 0.0f); }
  template <typename T, typename M>
  ZOO_DEVICE void load_matrix(M& matrix, const T* from, int32_t stride) const {
    nvcuda::wmma::load_matrix_sync(matrix, reinterpret_cast<const typename Native<T>::Type*>(from),
                                   stride);
  }
  template <typename A, typename B>
  ZOO_DEVICE void multiply_add(Sums& sums, const A& a, const B& b) const {
    nvcuda::wmma::mma_sync(sums, a, b, sums);
  }
  ZOO_DEVICE void store_sums(float* to, const Sums& sums, int32_t stride) const {
    nvcuda::wmma::store_matrix_sync(to, sums, stride, nvcuda::wmma::mem_row_major);
  }
};

}  // namespace zoo::cuda
