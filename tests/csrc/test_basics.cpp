// Dispatch, packing, and the accuracy of the activations.
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "reference.h"

namespace zoo::test {

namespace {

// Whether `holds` is true in a process of its own that starts with ZOO_CPU_CAPABILITY=value: the
// variable is read at first use.
bool with_capability(const char* value, bool (*holds)()) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("ZOO_CPU_CAPABILITY", value, 1);
    _exit(holds() ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  return status == 0;
}

}  // namespace

void test_dispatch() {
  CHECK(with_capability("scalar",
                        [] { return isa_error() == nullptr && active_isa() == Isa::scalar; }));
  CHECK(with_capability("", [] { return isa_error() == nullptr && active_isa() == best_isa(); }));
  CHECK(with_capability("sse9", [] {
    const char* problem = isa_error();
    return problem != nullptr && std::strstr(problem, "ZOO_CPU_CAPABILITY") != nullptr &&
           set_isa("scalar") == nullptr && isa_error() == nullptr;
  }));
  CHECK(table_of(Isa::scalar) != nullptr);
  CHECK(table_of(best_isa()) != nullptr);
  CHECK(isa_error() == nullptr);
  for (Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    const KernelTable* table = table_of(isa);
    if (table != nullptr) CHECK(std::strcmp(table->isa, isa_name(isa)) == 0);
    const Isa before = active_isa();
    const char* problem = set_isa(isa_name(isa));
    CHECK((problem == nullptr) == (table != nullptr));
    CHECK(active_isa() == (table != nullptr ? isa : before));
    // A level lends the types that it lacks from the one below.
    CHECK(active_kernels<float>().gemm.run != nullptr);
    CHECK(active_kernels<float>().direct.run != nullptr);
    CHECK(active_kernels<float>().winograd4.run != nullptr);
    CHECK(active_kernels<float>().winograd2.run != nullptr);
    CHECK(active_kernels<float>().peak.fma != nullptr);
    CHECK(active_kernels<double>().winograd4.run == nullptr);
    CHECK(active_kernels<double>().gemm.run == table_of(Isa::scalar)->f64.gemm.run);
    if (table == nullptr) continue;
    const Kernels<float>& active = active_kernels<float>();
    CHECK(active.gemm.run == table->f32.gemm.run);
    CHECK(active.scale_panels == table->f32.scale_panels);
    CHECK(active.norm.layer_norm == table->f32.norm.layer_norm);
  }
  const char* problem = set_isa("sse9");
  CHECK(problem != nullptr && std::strstr(problem, "sse9") != nullptr);
  set_isa(isa_name(best_isa()));

  Conv2dParams p;
  p.in_channels = 4, p.out_channels = 8, p.groups = 1;
  CHECK(select_conv2d(p, {DType::other}) == Conv2dImpl::aten);
  CHECK(kConv2dList[kConv2dListSize - 1].impl == Conv2dImpl::aten);
}

// A weight of `size` in the packing for matrix products, from memory with the given strides: the
// filters of a group side by side in strips, filled up with zeros to whole panels.
template <typename T>
bool packs(const WeightSize& size, int64_t groups, const Strides& strides) {
  const int64_t h = size.kernel_h, w = size.kernel_w, c = size.in_channels;
  Tensor<T> weight({size.out_channels, c, h, w}, strides, 0);
  weight.each([&](auto... i) { weight.at(i...) = static_cast<T>(weight.place(i...) + 1); });
  const int64_t per_group = size.out_channels / groups;
  const int64_t panels = (per_group + kPanel - 1) / kPanel;
  const int64_t count = packed_size(Packing::gemm, size, groups);
  if (count != groups * panels * c * h * w * kPanel) return false;
  std::vector<T> packed(static_cast<size_t>(count), -1);
  pack_weight(Packing::gemm, weight.data.get(), weight.strides, size, groups, packed.data());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t j = i % kStrip, k = i / kStrip % (c * h * w), strip = i / kStrip / (c * h * w);
    const int64_t strips = panels * kPanel / kStrip, group = strip / strips;
    const int64_t column = strip % strips * kStrip + j;
    const T expected = column < per_group
                           ? weight.at(group * per_group + column, k % c, k / c / w, k / c % w)
                           : T(0);
    if (packed[static_cast<size_t>(i)] != expected) return false;
  }
  return true;
}

void test_pack() {
  // Pieces of 128 elements that end within a filter, panels that are not full, groups.
  for (const WeightSize& size :
       {WeightSize{102, 2, 3, 2}, WeightSize{66, 131, 1, 1}, WeightSize{35, 43, 3, 3},
        WeightSize{3, 3, 16, 16}, WeightSize{32, 300, 1, 1}, WeightSize{64, 5, 7, 1}}) {
    const int64_t c = size.in_channels, h = size.kernel_h, w = size.kernel_w;
    for (int64_t groups : {1, 3}) {
      if (size.out_channels % groups != 0) continue;
      const Strides contiguous{c * h * w, h * w, w, 1}, last{c * h * w, 1, w * c, c},
          turned{1, size.out_channels * h * w, size.out_channels * w, size.out_channels},
          gaps{2 * c * h * w + 1, 2 * h * w, 2 * w, 2};
      for (const Strides& strides : {contiguous, last, turned, gaps}) {
        CHECK(packs<float>(size, groups, strides));
        CHECK(packs<double>(size, groups, strides));
      }
    }
  }
  // Winograd's packings do not depend on where the weight lies either.
  const WeightSize size{37, 7, 3, 3};
  for (Packing packing : {Packing::winograd4, Packing::winograd2}) {
    std::vector<float> first;
    for (const Strides& strides : {Strides{63, 9, 3, 1}, Strides{63, 1, 21, 7}}) {
      Tensor<float> weight({37, 7, 3, 3}, strides, 0);
      weight.each([&](int64_t n, int64_t c, int64_t y, int64_t x) {
        weight.at(n, c, y, x) = static_cast<float>(((n * 7 + c) * 3 + y) * 3 + x);
      });
      std::vector<float> packed(static_cast<size_t>(packed_size(packing, size, 1)), -1);
      pack_weight(packing, weight.data.get(), strides, size, 1, packed.data());
      if (first.empty()) first = packed;
      CHECK(packed == first);
    }
  }
  CHECK(direct_packing({8, 1, 3, 3}, 8) == Packing::depthwise);
  CHECK(direct_packing({16, 1, 3, 3}, 8) == Packing::gemm);
  CHECK(packed_size(Packing::depthwise, {40, 1, 3, 3}, 40) == 9 * 96);
  CHECK(packed_size(Packing::winograd4, {33, 5, 3, 3}, 1) == 2 * 36 * 5 * 32);
  CHECK(packed_size(Packing::winograd2, {33, 5, 3, 3}, 1) == 2 * 16 * 5 * 32);
  Packing packing;
  CHECK(!recognise_packing(1, {33, 5, 3, 3}, 1, &packing));
  CHECK(!recognise_packing(2 * 36 * 5 * 32, {33, 5, 3, 3}, 3, &packing));
  CHECK(!recognise_packing(2 * 36 * 5 * 32, {33, 5, 3, 2}, 1, &packing));
}

// Each activation over a sweep of floats, through a depthwise 1x1 convolution by 1.
void test_activations() {
  const int64_t count = 1 << 16;
  std::vector<float> input(count), output(count);
  for (int64_t i = 0; i < count; ++i) {
    const double t = double(i) / double(count / 2) - 1;  // -1 .. 1, denser near 0
    input[i] = static_cast<float>(t * t * t * 100);
  }
  const float inf = std::numeric_limits<float>::infinity();
  const float special[] = {0,    inf,    -inf,    std::nanf(""), 88.72f, 88.73f, -88.5f, -103,
                           -104, 1e-30f, -1e-30f, 3e38f,         -3e38f, 6,      -3,     3};
  std::copy(std::begin(special), std::end(special), input.begin());

  for (const KernelTable* table : tables()) {
    for (int a = 0; a <= static_cast<int>(Activation::leaky_relu); ++a) {
      Conv2dParams p;
      p.batch = p.in_h = p.out_h = 1;
      p.in_channels = p.out_channels = p.groups = kPanel;
      p.in_w = p.out_w = count / kPanel;
      p.activation = static_cast<Activation>(a);
      p.input = p.output = {count, 1, count, kPanel};
      const std::vector<float> packed(kPanel, 1);
      CHECK(table->f32.depthwise.workspace_bytes(p, 2) == 0);
      table->f32.depthwise.run(p, input.data(), packed.data(), nullptr, nullptr, output.data(),
                               nullptr, Threads(2).parallel);
      double worst = 0;
      for (int64_t i = 0; i < count; ++i) {
        const double expected = activation(p.activation, input[i]);
        // PyTorch's hardswish multiplies before it divides by 6, and overflows there.
        if (p.activation == Activation::hardswish && std::abs(input[i]) > 1e37f) continue;
        // gelu multiplies x by 1 + erf, which cancels where x is negative, here as in PyTorch.
        const bool cancels = p.activation == Activation::gelu;
        const double scale =
            cancels ? std::max(std::abs(expected), std::abs(input[i]) / 4.0) : std::abs(expected);
        // Below 1e-36, x / (1 + exp(-x)) has overflown to 0, in PyTorch too.
        const double unit = std::max(scale * 0x1p-23, 1e-36);
        if (!std::isfinite(expected)) {
          CHECK(close(output[i], expected, 0));
          continue;
        }
        const double error = std::abs(output[i] - expected) / unit;
        if (!(error <= worst)) worst = error;
      }
      if (!(worst <= 4)) {
        std::fprintf(stderr, "%s: activation %d is off by %.1f units in the last place\n",
                     table->isa, a, worst);
      }
      CHECK(worst <= 4);
    }
  }
}

}  // namespace zoo::test
