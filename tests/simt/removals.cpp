// Whether every barrier is needed, and the tests miss it when it is gone.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "support.h"

namespace zoo::simt {

int apart(const std::function<int()>& body, std::string* messages) {
  std::fflush(nullptr);
  std::FILE* file = std::tmpfile();
  const pid_t child = fork();
  if (child == 0) {
    dup2(fileno(file), STDERR_FILENO);
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::fflush(nullptr);
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (messages != nullptr) {
    std::rewind(file);
    char line[512];
    while (std::fgets(line, sizeof line, file) != nullptr) *messages += line;
  }
  std::fclose(file);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void test_removals([[maybe_unused]] const char* kernel, const std::function<int(Run&)>& launch) {
  Run whole;
  CHECK(launch(whole) == 0);
  CHECK(!whole.sites.empty());
#ifndef ZOO_TSAN
  for (const Site& site : whole.sites) {
    const int code = apart([&] {
      for (Order order : {Order::forward, Order::reversed, Order::shuffled}) {
        Run run;
        run.order = order;
        run.removed = site;
        if (launch(run) != 0) return 1;
      }
      return 0;
    });
    if (code == 0) {
      std::fprintf(stderr, "%s: nobody misses the barrier at %s:%d\n", kernel, site.file,
                   site.line);
    }
    CHECK(code != 0);
  }
#endif
}

}  // namespace zoo::simt
