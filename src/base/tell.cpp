#include "base/tell.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace retort {

void tell(std::string_view text, std::FILE* out) {
  const auto line = std::string(text) + "\n";
  // What stdio could not write stays in its buffer, or it does not: either way there is nobody to tell.
  if (std::fwrite(line.data(), 1, line.size(), out) != line.size() || std::fflush(out) != 0)
    std::clearerr(out);
}

void keep_outputs_apart() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  // Opened for the other direction: a write to a closed output still fails, as it would have.
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(number, F_GETFD) < 0 && errno == EBADF)
      static_cast<void>(::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

}  // namespace retort
