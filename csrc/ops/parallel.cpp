#include "ops/parallel.h"

#include <ATen/Parallel.h>
#include <pthread.h>

#include <atomic>

#ifndef INTRA_OP_PARALLEL
#error "compile with -fopenmp: without it at::parallel_for silently runs on one thread"
#endif

namespace zoo::ops {
namespace {

// About 10 microseconds of arithmetic: a few times what waking the pool costs.
constexpr double kWorthThreads = 1 << 18;

std::atomic<bool> forked_child{false};

[[maybe_unused]] const int registered =
    pthread_atfork(nullptr, nullptr, [] { forked_child.store(true, std::memory_order_relaxed); });

void run(const Parallel& self, int64_t count, void* context,
         void (*body)(void* context, int64_t begin, int64_t end, int32_t thread)) {
  if (count <= 0) return;
  if (self.threads <= 1 || count == 1) {
    body(context, 0, count, 0);
    return;
  }
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    body(context, begin, end, at::get_thread_num());
  });
}

}  // namespace

bool in_forked_child() { return forked_child.load(std::memory_order_relaxed); }

OneThreadInChild::OneThreadInChild() : before_(in_forked_child() ? at::get_num_threads() : 1) {
  if (before_ > 1) at::set_num_threads(1);
}

OneThreadInChild::~OneThreadInChild() {
  if (before_ > 1) at::set_num_threads(before_);
}

Parallel parallel(double work) {
  Parallel result;
  result.run = run;
  const bool alone = work < kWorthThreads || in_forked_child() || at::in_parallel_region();
  result.threads = alone ? 1 : at::get_num_threads();
  return result;
}

}  // namespace zoo::ops
