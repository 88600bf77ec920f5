// What the tests of the CUDA kernels share: numbers of any type beside their values in double, and
// what a launch is to be like.
#pragma once

#include "../csrc/reference.h"
#include "block.h"
#include "cuda/element.h"
#include "host_context.h"

namespace zoo::simt {

using test::Random;
using test::Shape;
using test::Tensor;

template <typename T>
T rounded(double x) {
  return cuda::from_float<T>(static_cast<float>(x));
}

// The relative error of rounding to T, and the absolute one near zero.
template <typename T>
constexpr double kUnit = std::is_same_v<T, float>        ? 0x1p-24
                         : std::is_same_v<T, cuda::Half> ? 0x1p-11
                                                         : 0x1p-8;
template <typename T>
constexpr double kTiny = std::is_same_v<T, cuda::Half> ? 0x1p-25 : 0x1p-126;

// A tensor of T, each number of which is in `exact` too. Gaps hold NaN.
template <typename T>
struct Numbers {
  Tensor<T> data;
  Tensor<double> exact;

  Numbers(const Shape& shape, const Strides& strides)
      : data(shape, strides, rounded<T>(std::numeric_limits<double>::quiet_NaN())),
        exact(shape, strides, std::numeric_limits<double>::quiet_NaN()) {}

  void fill(Random& random, double scale = 1) {
    test::fill(random, exact, scale);
    round();
  }
  void round() {
    exact.each([&](auto... i) {
      data.at(i...) = rounded<T>(exact.at(i...));
      exact.at(i...) = cuda::to_float(data.at(i...));
    });
  }
};

inline Run random_run(Random& random) {
  Run run;
  run.order = random.pick({Order::forward, Order::reversed, Order::shuffled});
  run.seed = random.engine();
  return run;
}

inline Strides channels_last(const Shape& s) { return {s.h * s.w * s.c, 1, s.w * s.c, s.c}; }

// NCHW, channels_last as it is or with gaps of a chunk, or anything.
inline Strides some_strides(Random& random, const Shape& shape) {
  if (random.chance(0.3)) return test::random_strides(random, shape, false);
  Strides s = channels_last(shape);
  if (random.chance(0.3)) s.w += 8, s.h = s.w * shape.w + 16, s.n = s.h * shape.h;
  return s;
}

inline int64_t out_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  const int64_t room = in + 2 * pad - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

// Runs `body` in a process of its own, whose messages are kept back. Its exit code, or the signal
// that ended it plus 128; what it wrote to stderr is in `messages`.
int apart(const std::function<int()>& body, std::string* messages = nullptr);

// Takes every barrier that `launch` meets out, one at a time: whether each is missed. `launch` runs
// a kernel under the given order and returns how many results are wrong.
void test_removals(const char* kernel, const std::function<int(Run&)>& launch);

// How many cases to run; the thread sanitizer takes ten times as long for each.
constexpr int cases(int count) {
#ifdef ZOO_TSAN
  return count / 8;
#else
  return count;
#endif
}

void test_harness();
void test_races();
void test_elements();
void test_plans();
void test_choices();
void test_conv2d();
void test_conv2d_half();
void test_conv2d_bfloat16();
void test_depthwise();
void test_pool2d();
void test_far();

}  // namespace zoo::simt
