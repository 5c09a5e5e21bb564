// OpenSSL's objects with owners, for the files of this folder only.
#pragma once
#include <openssl/bio.h>
#include <openssl/err.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

namespace retort {

template <auto Function> struct Freed {
  template <class T> void operator()(T* pointer) const { Function(pointer); }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free_all>>;

// The text has to outlive it.
inline Bio bio_over(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

inline std::string text_of(BIO* memory) {
  char* data = nullptr;
  const auto size = BIO_get_mem_data(memory, &data);
  return {data, static_cast<size_t>(size)};
}

// The first of OpenSSL's errors, which led to the others, or "" where it has none; all of them are forgotten.
inline std::string openssl_reason() {
  const auto error = ERR_peek_error();
  ERR_clear_error();
  const char* reason = error ? ERR_reason_error_string(error) : nullptr;
  return reason ? reason : "";
}

[[noreturn]] inline void openssl_failed(std::string_view what) {
  throw Failure(fmt::format("OpenSSL: {}: {}", what, openssl_reason()));
}

}  // namespace retort
