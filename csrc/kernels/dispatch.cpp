#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cpu/tables.h"

namespace zoo {
namespace {

constexpr int32_t kIsaCount = 3;

bool machine_has(Isa isa) {
  if (isa == Isa::scalar) return true;
#if defined(__x86_64__)
  // GCC's and clang's __builtin_cpu_supports also asks the operating system (XGETBV) whether it
  // saves the wide registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  if (isa == Isa::avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

// Null, or why `name` cannot be used; *isa is set when it can.
std::string parse(const char* name, Isa* isa) {
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const Isa candidate = static_cast<Isa>(i);
    if (std::strcmp(name, isa_name(candidate)) != 0) continue;
    if (table_of(candidate) == nullptr) {
      return std::string("this machine lacks \"") + name + "\"; the best level here is \"" +
             isa_name(best_isa()) + "\"";
    }
    *isa = candidate;
    return {};
  }
  return std::string("\"") + name + "\" is no CPU capability; use scalar, avx2 or avx512";
}

struct State {
  std::atomic<Isa> isa;
  std::string error;  // of the environment variable; written once, before anyone reads it
  std::atomic<bool> overridden{false};

  State() : isa(best_isa()) {
    const char* name = std::getenv("ZOO_CPU_CAPABILITY");
    if (name == nullptr || *name == '\0') return;
    Isa wanted = best_isa();
    const std::string problem = parse(name, &wanted);
    if (!problem.empty()) error = "ZOO_CPU_CAPABILITY: " + problem;
    isa = wanted;
  }
};

State& state() {
  static State instance;
  return instance;
}

template <typename T>
const Kernels<T>& kernels_of(const KernelTable& table);
template <>
const Kernels<float>& kernels_of(const KernelTable& table) {
  return table.f32;
}
template <>
const Kernels<double>& kernels_of(const KernelTable& table) {
  return table.f64;
}

template <typename T>
struct Merged {
  Kernels<T> levels[kIsaCount];

  Merged() {
    for (int32_t i = 0; i < kIsaCount; ++i) {
      levels[i] = i == 0 ? kernels_of<T>(kScalarTable) : levels[i - 1];
      const KernelTable* table = table_of(static_cast<Isa>(i));
      if (table == nullptr) continue;
      const Kernels<T>& own = kernels_of<T>(*table);
      // A level has all kernels of a type or none.
      if (own.gemm.run != nullptr) levels[i] = own;
    }
  }
};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::scalar:
      break;
  }
  return "scalar";
}

const KernelTable* table_of(Isa isa) {
  if (!machine_has(isa)) return nullptr;
#if defined(__x86_64__)
  if (isa == Isa::avx512) return &kAvx512Table;
  if (isa == Isa::avx2) return &kAvx2Table;
#endif
  return &kScalarTable;
}

Isa best_isa() {
  if (machine_has(Isa::avx512)) return Isa::avx512;
  return machine_has(Isa::avx2) ? Isa::avx2 : Isa::scalar;
}

Isa active_isa() { return state().isa.load(std::memory_order_relaxed); }

const char* set_isa(const char* name) {
  static thread_local std::string message;
  Isa wanted = Isa::scalar;
  message = parse(name, &wanted);
  if (!message.empty()) return message.c_str();
  state().isa.store(wanted, std::memory_order_relaxed);
  state().overridden.store(true, std::memory_order_relaxed);
  return nullptr;
}

const char* isa_error() {
  const State& s = state();
  return s.error.empty() || s.overridden.load(std::memory_order_relaxed) ? nullptr
                                                                         : s.error.c_str();
}

template <typename T>
const Kernels<T>& active_kernels() {
  static const Merged<T> merged;
  return merged.levels[static_cast<int32_t>(active_isa())];
}

template const Kernels<float>& active_kernels<float>();
template const Kernels<double>& active_kernels<double>();

}  // namespace zoo
