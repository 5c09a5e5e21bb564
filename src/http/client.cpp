#include "http/client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/stop.h"

namespace retort {

namespace {

constexpr size_t kLargestReply = size_t{256} << 20;
constexpr double kLongestWait = 60;         // seconds between tries, unless the server asks for more
constexpr double kLongestRetryAfter = 900;  // a server that asks for more is given up
constexpr long kConnectSeconds = 20;

// libcurl is set up once, before any thread asks.
void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw Failure(fmt::format("libcurl: {}", curl_easy_strerror(started)));
}

// One line of printable ASCII, as RFC 6750 has it. Read without base/files.h, so that no record of the run
// lists or hashes the file.
std::string read_token(const std::string& path) {
  if (path.empty()) return "";
  const std::unique_ptr<std::FILE, decltype(&std::fclose)> file(std::fopen(path.c_str(), "re"), std::fclose);
  if (!file)
    throw RecipeError(
        fmt::format("teacher.server.token_file: {}: {}", printable(path), std::strerror(errno)));
  char buffer[8192];
  std::string token(buffer, std::fread(buffer, 1, sizeof buffer, file.get()));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r' || token.back() == ' '))
    token.pop_back();
  const bool sound = !token.empty() && token.size() < sizeof buffer - 2 &&
                     std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7F; });
  if (!sound)
    throw RecipeError(
        fmt::format("teacher.server.token_file: {}: expected one line that holds a token", printable(path)));
  return token;
}

bool is_this_machine(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  char* host = nullptr;
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK ||
      curl_url_get(parsed.get(), CURLUPART_HOST, &host, 0) != CURLUE_OK)
    return false;
  const std::string name = host;
  curl_free(host);
  return name == "localhost" || name == "[::1]" ||
         (name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string::npos);
}

struct Body {
  std::string text;
  bool too_large = false;
};
size_t take_body(char* data, size_t size, size_t count, void* into) {
  auto& body = *static_cast<Body*>(into);
  if (body.text.size() + size * count > kLargestReply) {
    body.too_large = true;
    return 0;
  }
  body.text.append(data, size * count);
  return size * count;
}
int stop_transfer(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return stop_requested() ? 1 : 0; }

bool may_pass(CURLcode code) {
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return false;
    default: return true;
  }
}

bool may_pass(long status) { return status == 408 || status == 429 || status >= 500; }

// {"error": {"message": ...}} as OpenAI, vLLM and llama.cpp write it, {"detail": ...} as FastAPI does, or the
// text.
std::string message_of(const std::string& body, std::string_view place) {
  try {
    const auto json = parse_json(body, place);
    if (!json.is_object()) return body;
    if (const auto error = json.find("error"); error != json.end()) {
      if (error->is_string()) return error->get<std::string>();
      if (error->is_object() && error->contains("message") && error->at("message").is_string())
        return error->at("message").get<std::string>();
    }
    for (const auto* key : {"message", "detail"})
      if (json.contains(key))
        return json.at(key).is_string() ? json.at(key).get<std::string>() : json.at(key).dump();
  } catch (const FormatError&) {}
  return body;
}

}  // namespace

struct HttpClient::Outcome {
  HttpReply reply;
  std::string problem;     // empty: the reply counts
  bool again = false;      // another try may help
  double retry_after = 0;  // seconds
};

HttpClient::HttpClient(std::string url, ServerSpec spec) : url_(std::move(url)), spec_(std::move(spec)) {
  start_curl();
  while (url_.ends_with('/')) url_.pop_back();
  token_ = read_token(spec_.token_file);
  if (!token_.empty() && !url_.starts_with("https://") && !is_this_machine(url_))
    throw RecipeError(
        fmt::format("teacher.server.token_file: {} is not encrypted, so that anyone on the way could read "
                    "the token; use https://, or a tunnel from this machine",
                    url_));
  if (!spec_.ca_file.empty() && !std::filesystem::exists(spec_.ca_file))
    throw RecipeError(fmt::format("teacher.server.ca_file: {}: no such file", printable(spec_.ca_file)));
}

HttpClient::~HttpClient() {
  for (auto* handle : handles_) curl_easy_cleanup(handle);
}

int64_t HttpClient::retries() const {
  const std::lock_guard lock(mutex_);
  return retries_;
}

void* HttpClient::take_handle() {
  {
    const std::lock_guard lock(mutex_);
    if (!handles_.empty()) {
      auto* handle = handles_.back();
      handles_.pop_back();
      return handle;
    }
  }
  auto* handle = curl_easy_init();
  if (!handle) throw Failure("libcurl: no memory for a connection");
  return handle;
}

void HttpClient::give_handle(void* handle) {
  const std::lock_guard lock(mutex_);
  handles_.push_back(handle);
}

// A server may repeat what it was sent; its words come from outside.
std::string HttpClient::harmless_text(std::string_view text) const {
  std::string clean(text.substr(0, 4096));
  for (size_t at = clean.find(token_); !token_.empty() && at != std::string::npos;
       at = clean.find(token_, at))
    clean.replace(at, token_.size(), "***");
  std::replace(clean.begin(), clean.end(), '\n', ' ');
  std::string line;
  while (!clean.empty() && line.size() < 360) {  // printable() cuts
    line += printable(clean.substr(0, 100));
    clean.erase(0, 100);
  }
  return line;
}

void HttpClient::wait_until(Clock::time_point when) {
  while (Clock::now() < when) {
    leave_if_stopped("waiting for the teacher's server");
    std::this_thread::sleep_for(
        std::min<Clock::duration>(when - Clock::now(), std::chrono::milliseconds(100)));
  }
}

void HttpClient::wait_for_turn() {
  Clock::time_point turn;
  {
    const std::lock_guard lock(mutex_);
    turn = std::max({Clock::now(), next_turn_, pause_until_});
    if (spec_.requests_per_minute > 0)
      next_turn_ = turn + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
                              60.0 / static_cast<double>(spec_.requests_per_minute)));
  }
  wait_until(turn);
}

HttpClient::Outcome HttpClient::try_once(const std::string& path, const std::string* body,
                                         ServerFault fault) {
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> owned(static_cast<CURL*>(take_handle()),
                                                            curl_easy_cleanup);
  auto* handle = owned.get();
  curl_easy_reset(handle);  // keeps the connection
  const auto address = url_ + path;
  char words[CURL_ERROR_SIZE] = "";
  Body received;
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(nullptr, curl_slist_free_all);
  const auto header = [&](const std::string& line) {
    if (auto* longer = curl_slist_append(headers.get(), line.c_str()))
      (void)headers.release(), headers.reset(longer);
    else throw std::bad_alloc();
  };
  header("Content-Type: application/json");
  header("Accept: application/json");
  header("Expect:");
  if (!token_.empty()) header("Authorization: Bearer " + token_);
  const auto set = [&](CURLoption option, auto value) {
    if (curl_easy_setopt(handle, option, value) != CURLE_OK)
      throw Failure(fmt::format("libcurl does not know option {} that the teacher's server needs",
                                static_cast<int>(option)));
  };
  set(CURLOPT_URL, address.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PROXY, "");
  set(CURLOPT_SSL_VERIFYPEER, 1L);
  set(CURLOPT_SSL_VERIFYHOST, 2L);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!spec_.ca_file.empty()) set(CURLOPT_CAINFO, spec_.ca_file.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::ceil(spec_.timeout * 1000)));
  set(CURLOPT_ACCEPT_ENCODING, "");
  set(CURLOPT_ERRORBUFFER, words);
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_WRITEFUNCTION, take_body);
  set(CURLOPT_WRITEDATA, &received);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, stop_transfer);
  if (body) {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body->size()));
    set(CURLOPT_POSTFIELDS, body->c_str());
  }
  const auto code = curl_easy_perform(handle);
  Outcome outcome;
  curl_off_t retry_after = 0;
  char* elsewhere = nullptr;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &outcome.reply.status);
  curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_after);
  curl_easy_getinfo(handle, CURLINFO_REDIRECT_URL, &elsewhere);
  const std::string redirect = elsewhere ? elsewhere : "";
  if (code == CURLE_OK) give_handle(owned.release());  // a broken connection is not used again
  leave_if_stopped("asking the teacher's server");

  const auto status = outcome.reply.status;
  if (code != CURLE_OK) {
    outcome.problem = received.too_large ? fmt::format("sends more than {}", bytes(kLargestReply))
                                         : harmless_text(*words ? words : curl_easy_strerror(code));
    outcome.again = !received.too_large && may_pass(code);
  } else if (status >= 300 && status < 400) {
    outcome.problem = fmt::format(
        "redirects to {}; only the host that the recipe names is asked, so name the right address in "
        "teacher.url",
        harmless_text(redirect));
  } else if (may_pass(status) && !(status >= 500 && fault == ServerFault::refuses)) {
    outcome.problem =
        fmt::format("answers {}: {}", status, harmless_text(message_of(received.text, address)));
    outcome.again = true;
    outcome.retry_after = static_cast<double>(retry_after);
  } else if (outcome.reply.ok()) {
    try {
      outcome.reply.json = parse_json(received.text, address);
    } catch (const FormatError& error) {
      outcome.problem = fmt::format(
          "answers {} with something that is not JSON: {}", status,
          harmless_text(std::string_view(error.what())
                            .substr(std::min(address.size() + 2, std::string_view(error.what()).size()))));
      outcome.again = true;
    }
  } else {
    outcome.reply.message = harmless_text(message_of(received.text, address));
  }
  return outcome;
}

HttpReply HttpClient::request(const std::string& path, const Json* body, ServerFault fault) {
  const auto text = body ? body->dump(-1, ' ', false, Json::error_handler_t::replace) : "";
  const Draws jitter(std::hash<std::string>()(text), "back-off");
  const auto start = Clock::now();
  for (int64_t attempt = 1;; ++attempt) {
    wait_for_turn();
    auto outcome = try_once(path, body ? &text : nullptr, fault);
    if (outcome.problem.empty()) return std::move(outcome.reply);
    const auto place = address(path) + ": ";
    if (!outcome.again) throw Failure(place + outcome.problem);
    if (attempt >= spec_.tries || outcome.retry_after > kLongestRetryAfter)
      throw Failure(fmt::format(
          "{}{}; gave up after {} {} in {:.0f} s; what was done is kept, the same command continues", place,
          outcome.problem, attempt, attempt == 1 ? "try" : "tries",
          std::chrono::duration<double>(Clock::now() - start).count()));
    // Half to one and a half of the wait, so that many clients do not come back at once.
    const double growing =
        std::min(kLongestWait, spec_.first_wait * std::pow(2.0, static_cast<double>(attempt - 1))) *
        (0.5 + jitter.uniform(static_cast<uint64_t>(attempt)));
    const auto until =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(
                           std::chrono::duration<double>(std::max(growing, outcome.retry_after)));
    {
      const std::lock_guard lock(mutex_);
      ++retries_;
      if (outcome.retry_after > 0) pause_until_ = std::max(pause_until_, until);  // for everyone
    }
    wait_until(until);
  }
}

}  // namespace retort
