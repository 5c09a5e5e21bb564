// The one place with network code: JSON requests to the host that a recipe names (libcurl), and to no other:
// redirects are not followed, proxies of the environment are not used. TLS is verified. Failures that may
// pass are tried again with growing waits.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/json.h"
#include "teacher/server_spec.h"

namespace retort {

struct HttpReply {
  long status = 0;
  Json json;            // of a success; null otherwise
  std::string message;  // what the server says of a refusal, in one printable line without the token
  bool ok() const { return status >= 200 && status < 300; }
};

// What a 5xx means: trouble that may pass, or, where a request is made to find out what a server can do, that
// it cannot (llama-cpp-python says 500 to fields that it does not understand).
enum class ServerFault { passes, refuses };

class HttpClient {
 public:
  // `url`: the base that paths are appended to. Reads the token file. RecipeError for an address or a token
  // that cannot be used.
  HttpClient(std::string url, ServerSpec spec);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Thread-safe. A success, or a refusal that no second try would change (4xx but 408 and 429). Failure, with
  // what went wrong last, when the tries are used up or the server's certificate does not verify.
  HttpReply get(const std::string& path) { return request(path, nullptr, ServerFault::passes); }
  HttpReply post(const std::string& path, const Json& body, ServerFault fault = ServerFault::passes) {
    return request(path, &body, fault);
  }

  std::string address(const std::string& path) const { return url_ + path; }
  int64_t retries() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Outcome;
  HttpReply request(const std::string& path, const Json* body, ServerFault fault);
  Outcome try_once(const std::string& path, const std::string* body, ServerFault fault);
  void wait_for_turn();
  void wait_until(Clock::time_point when);
  std::string harmless_text(std::string_view text) const;
  void* take_handle();
  void give_handle(void* handle);

  std::string url_, token_;
  ServerSpec spec_;
  mutable std::mutex mutex_;
  std::vector<void*> handles_;  // idle connections
  Clock::time_point next_turn_{}, pause_until_{};
  int64_t retries_ = 0;
};

}  // namespace retort
