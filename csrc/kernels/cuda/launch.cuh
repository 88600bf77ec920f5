// What the .cu files share.
#pragma once

#include <type_traits>

#include "device_context.h"
#include "launch.h"

namespace zoo::cuda {

// Calls with(std::bool_constant...) for run-time values, and returns what it does.
template <typename With>
cudaError_t with_constants(With with) {
  return with();
}
template <typename With, typename... More>
cudaError_t with_constants(With with, bool first, More... more) {
  if (first) {
    return with_constants([&](auto... rest) { return with(std::true_type{}, rest...); }, more...);
  }
  return with_constants([&](auto... rest) { return with(std::false_type{}, rest...); }, more...);
}

inline dim3 blocks_of(const Grid& grid) {
  return {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
          static_cast<unsigned>(grid.z)};
}

}  // namespace zoo::cuda
