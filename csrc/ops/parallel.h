// Threads for kernels: PyTorch's own pool, so that torch.set_num_threads() governs ours too.
#pragma once

#include "kernels/params.h"

namespace zoo::ops {

// work: a rough count of multiply-adds or elements; little work is not worth waking a thread for.
// One thread also inside a parallel region, and in a forked child: there the pool that OpenMP
// remembers has no threads any more, and waiting for them would hang.
Parallel parallel(double work);

// Whether this process was forked from one that had used PyTorch, whose own ops may then hang.
bool in_forked_child();

// As long as one lives in a forked child, PyTorch's own ops run on one thread: on more they hang.
class OneThreadInChild {
 public:
  OneThreadInChild();
  ~OneThreadInChild();
  OneThreadInChild(const OneThreadInChild&) = delete;
  OneThreadInChild& operator=(const OneThreadInChild&) = delete;

 private:
  int before_;  // how many there were
};

}  // namespace zoo::ops
