#include "base/system_failure.h"

#include <cerrno>
#include <cstring>

namespace retort {

Trouble trouble_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO:
    case ENODEV: return Trouble::bad_input;
    case EINTR:
    case EAGAIN:
    case EIO:
    case EREMOTEIO:
    case ESTALE:
    case ENOSPC:
    case EDQUOT:
    case EROFS:  // a disk that had an error is often mounted anew
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
    case EBUSY:
    case ETXTBSY:
    case ENOLCK:
    case ENOTCONN:  // a file system in user space whose server is started again
    case ETIMEDOUT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH: return Trouble::passing;
    default: return Trouble::machine;
  }
}

void throw_reading(const std::string& message, int error_number) {
  if (trouble_of(error_number) == Trouble::bad_input)
    throw FormatError(message + ": " + std::strerror(error_number));
  throw_writing(message, error_number);
}

void throw_writing(const std::string& message, int error_number) {
  const auto line = message + ": " + std::strerror(error_number);
  if (trouble_of(error_number) == Trouble::passing) throw PassingFailure(line);
  throw Failure(line);
}

void throw_writing(const std::filesystem::filesystem_error& error) {
  if (trouble_of(error.code().value()) == Trouble::passing) throw PassingFailure(error.what());
  throw Failure(error.what());
}

}  // namespace retort
