// What the kernels' tests share: checks, random numbers, tensors of any layout, threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "conv2d_list.h"
#include "cpu/tables.h"
#include "dispatch.h"
#include "pack.h"
#include "params.h"
#include "table.h"

namespace zoo::test {

inline int failures = 0;

inline void check(bool ok, const char* what, const char* file, int line) {
  if (ok) return;
  ++failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what);
}
#define CHECK(condition) ::zoo::test::check((condition), #condition, __FILE__, __LINE__)

// How many random cases a test draws: ZOO_TEST_CASES, where it is set, instead of the usual number.
inline int random_cases(int usual) {
  const char* wanted = std::getenv("ZOO_TEST_CASES");
  return wanted != nullptr ? std::atoi(wanted) : usual;
}

// The tables under test: all that this machine can run. Under emulation, AVX-512 alone.
inline std::vector<const KernelTable*> tables() {
#ifdef ZOO_EMULATE_AVX512
  return {&kAvx512Table};
#else
  std::vector<const KernelTable*> all;
  for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (const KernelTable* table = table_of(isa)) all.push_back(table);
  }
  return all;
#endif
}

template <typename T>
const Kernels<T>& kernels_of(const KernelTable& table) {
  if constexpr (std::is_same_v<T, float>) {
    return table.f32;
  } else {
    return table.f64;
  }
}

// Every implementation that can do the case, quick or not.
inline std::vector<Conv2dImpl> implementations_for(const Conv2dParams& p) {
  std::vector<Conv2dImpl> all;
  for (Conv2dImpl one : {Conv2dImpl::gemm, Conv2dImpl::direct, Conv2dImpl::depthwise,
                         Conv2dImpl::winograd4, Conv2dImpl::winograd2}) {
    const bool winograd = one == Conv2dImpl::winograd4 || one == Conv2dImpl::winograd2;
    const bool depthwise = direct_packing(weight_size(p), p.groups) == Packing::depthwise;
    const Packing packing = packing_of(one, p);
    if (winograd ? packing_declines(packing, weight_size(p), p.groups) == nullptr &&
                       packing_declines(packing, p.window) == nullptr && pool_of_two(p)
                 : depthwise == (one == Conv2dImpl::depthwise)) {
      all.push_back(one);
    }
  }
  return all;
}

template <typename T>
void pack_weight(Packing packing, const T* weight, const Strides& strides, const WeightSize& size,
                 int64_t groups, T* packed) {
  for (int64_t i = 0; i < packed_parts(packing, size, groups); ++i) {
    pack_part(packing, weight, strides, size, groups, i, packed);
  }
}

struct Random {
  std::mt19937_64 engine;

  explicit Random(uint64_t seed) : engine(seed) {}
  int64_t whole(int64_t low, int64_t high) {  // both ends included
    return low + static_cast<int64_t>(engine() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(double p) { return real() < p; }
  double real() { return static_cast<double>(engine() >> 11) * 0x1p-53; }
  template <typename X>
  X pick(std::initializer_list<X> choices) {
    return *(choices.begin() + whole(0, static_cast<int64_t>(choices.size()) - 1));
  }
};

// A Parallel over std::thread. Ranges are handed out so that uneven splits occur too.
struct Threads {
  static inline std::atomic<bool> invalid{false};  // a thread has raised FE_INVALID
  Parallel parallel;

  explicit Threads(int32_t threads) {
    parallel.threads = threads;
    parallel.run = [](const Parallel& self, int64_t count, void* context,
                      void (*body)(void*, int64_t, int64_t, int32_t)) {
      const int64_t used = std::min<int64_t>(self.threads, count);
      std::vector<std::thread> pool;
      for (int64_t t = 0; t < used; ++t) {
        pool.emplace_back([=] {
          body(context, count * t / used, count * (t + 1) / used, static_cast<int32_t>(t));
          if (std::fetestexcept(FE_INVALID) != 0) invalid = true;
        });
      }
      for (std::thread& thread : pool) thread.join();
    };
  }
};

// A kernel's workspace, of signalling NaNs: to compute with what the kernel has not written raises
// FE_INVALID, in lanes too whose results go nowhere. Denormal numbers may lie there in earnest,
// each of which takes a hundred cycles and more.
template <typename T>
std::unique_ptr<T, decltype(&std::free)> workspace_of(int64_t bytes) {
  const size_t size = static_cast<size_t>(bytes + 63) / 64 * 64;
  T* const data = static_cast<T*>(std::aligned_alloc(64, size));
  std::fill(data, data + size / sizeof(T), std::numeric_limits<T>::signaling_NaN());
  return {data, &std::free};
}

template <typename Run>
bool raises_invalid(Run run) {
  Threads::invalid = false;
  std::feclearexcept(FE_INVALID);
  run();
  return Threads::invalid || std::fetestexcept(FE_INVALID) != 0;
}

struct Shape {
  int64_t n, c, h, w;
  int64_t count() const { return n * c * h * w; }
};

// Exactly the elements that the strides can reach, in a heap block of its own, so that the
// address sanitizer sees any step outside. Elements between the strides hold `gap`.
template <typename T>
struct Tensor {
  Shape shape{};
  Strides strides{};
  int64_t size = 0;
  std::unique_ptr<T[]> data;

  Tensor(const Shape& s, const Strides& st, T gap) : shape(s), strides(st) {
    size = s.count() == 0
               ? 0
               : (s.n - 1) * st.n + (s.c - 1) * st.c + (s.h - 1) * st.h + (s.w - 1) * st.w + 1;
    data.reset(new T[static_cast<size_t>(size)]);
    std::fill(data.get(), data.get() + size, gap);
  }
  int64_t place(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return n * strides.n + c * strides.c + h * strides.h + w * strides.w;
  }
  T& at(int64_t n, int64_t c, int64_t h, int64_t w) { return data[place(n, c, h, w)]; }
  T at(int64_t n, int64_t c, int64_t h, int64_t w) const { return data[place(n, c, h, w)]; }

  template <typename F>
  void each(F f) const {
    for (int64_t n = 0; n < shape.n; ++n) {
      for (int64_t c = 0; c < shape.c; ++c) {
        for (int64_t h = 0; h < shape.h; ++h) {
          for (int64_t w = 0; w < shape.w; ++w) f(n, c, h, w);
        }
      }
    }
  }
};

// NCHW, channels_last, or any order of dimensions with gaps; `may_expand` allows stride 0.
inline Strides random_strides(Random& random, const Shape& s, bool may_expand) {
  int64_t order[] = {3, 2, 1, 0};  // from the innermost dimension on: w, h, c, n
  const int64_t kind = random.whole(0, 3);
  if (kind == 1) std::swap(order[0], order[2]), std::swap(order[1], order[2]);  // c, w, h, n
  if (kind == 2) std::shuffle(order, order + 4, random.engine);
  const bool last = kind == 3;  // channels_last with gaps
  if (last) std::swap(order[0], order[2]), std::swap(order[1], order[2]);
  const int64_t sizes[] = {s.n, s.c, s.h, s.w};
  int64_t strides[4];
  int64_t step = kind == 2 ? random.whole(1, 2) : 1;
  for (int64_t d : order) {
    strides[d] = step;
    step *= sizes[d];
    if (kind >= 2) step += random.whole(0, 3);
    if (step == 0) step = 1;
  }
  if (may_expand && random.chance(0.1)) strides[random.whole(0, 3)] = 0;
  return {strides[0], strides[1], strides[2], strides[3]};
}

template <typename T>
void fill(Random& random, Tensor<T>& tensor, double scale = 1) {
  tensor.each(
      [&](auto... i) { tensor.at(i...) = static_cast<T>((random.real() * 2 - 1) * scale); });
}

// Some NaN and infinities.
template <typename T>
void spoil(Random& random, Tensor<T>& tensor) {
  const T inf = std::numeric_limits<T>::infinity();
  if (tensor.shape.count() == 0) return;
  for (int i = 0; i < 4; ++i) {
    tensor.at(random.whole(0, tensor.shape.n - 1), random.whole(0, tensor.shape.c - 1),
              random.whole(0, tensor.shape.h - 1), random.whole(0, tensor.shape.w - 1)) =
        random.pick<T>({inf, -inf, std::numeric_limits<T>::quiet_NaN()});
  }
}

// NaN equals NaN, an infinity itself; otherwise within `bound`.
inline bool close(double got, double expected, double bound) {
  if (std::isnan(expected)) return std::isnan(got);
  if (std::isinf(expected)) return got == expected;
  return std::abs(got - expected) <= bound;
}

void test_dispatch();
void test_pack();
void test_activations();
void test_conv2d();
void test_depthwise();
void test_direct();
void test_winograd();
void test_pool2d();
void test_scale_panels();
void test_scale_shift();
void test_layer_norm();
void test_peak();
void test_weight_grad();
void test_training();

}  // namespace zoo::test
