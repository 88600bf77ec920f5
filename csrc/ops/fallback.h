// What happens to a case that no kernel takes: ZOO_FALLBACK says, read at every such call.
#pragma once

namespace zoo::ops {

// Returns when the reference may run (ZOO_FALLBACK unset, empty or "aten"); raises an error that
// names the op and the reason when ZOO_FALLBACK=error.
void declined(const char* op, const char* reason);

// Whether PyTorch may compute what kernels of ours could too: unless ZOO_FALLBACK=error, and but in
// a forked child, where its ops may wait for threads that do not exist there.
bool may_prefer_aten();

}  // namespace zoo::ops
