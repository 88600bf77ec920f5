#include "ops/fallback.h"

#include <c10/util/Exception.h>

#include <cstdlib>
#include <string_view>

#include "ops/parallel.h"

namespace zoo::ops {

namespace {

std::string_view wish_of_environment() {
  const char* value = std::getenv("ZOO_FALLBACK");
  return value == nullptr ? std::string_view() : value;
}

}  // namespace

void declined(const char* op, const char* reason) {
  const std::string_view wish = wish_of_environment();
  if (wish.empty() || wish == "aten") return;
  TORCH_CHECK_VALUE(wish == "error", "ZOO_FALLBACK=", wish,
                    " is not known; set it to \"aten\" (the default) or \"error\"");
  TORCH_CHECK_NOT_IMPLEMENTED(false, "zoo::", op, " has no kernel for this case: ", reason,
                              " (ZOO_FALLBACK=error forbids the aten reference)");
}

bool may_prefer_aten() { return wish_of_environment() != "error" && !in_forked_child(); }

}  // namespace zoo::ops
