// Runs tests/http/server.py beside a test.
#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "data/temporary_folder.h"  // tests/data
#include "where.h"                  // tests

namespace retort {

class LoopbackServer {
 public:
  explicit LoopbackServer(Json options = Json::object()) {
    options["log"] = log();
    const auto port_file = folder_ / "port";
    std::ofstream(folder_ / "options.json") << options.dump();
    pipe_ = popen(fmt::format("exec python3 '{}/tests/http/server.py' '{}' \"$(cat '{}')\"", source_dir(),
                              port_file, folder_ / "options.json")
                      .c_str(),
                  "w");
    for (int wait = 0; wait < 1000 && !std::filesystem::exists(port_file); ++wait)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::ifstream(port_file) >> port_;
    if (port_ == 0) throw std::runtime_error("tests/http/server.py did not start");
  }
  ~LoopbackServer() { pclose(pipe_); }  // it ends with its standard input
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  int port() const { return port_; }
  std::string url(const std::string& scheme = "http", const std::string& host = "127.0.0.1") const {
    return fmt::format("{}://{}:{}/v1", scheme, host, port_);
  }
  // What it was asked, in order: {"path", "time", "authorization", "body"}.
  std::vector<Json> requests() const {
    std::vector<Json> all;
    std::ifstream file(log());
    for (std::string line; std::getline(file, line);) all.push_back(parse_json(line, "log"));
    return all;
  }
  size_t posts() const {
    size_t count = 0;
    for (const auto& request : requests()) count += !request.at("body").is_null();
    return count;
  }

 private:
  std::string log() const { return folder_ / "log.jsonl"; }
  TemporaryFolder folder_;
  std::FILE* pipe_ = nullptr;
  int port_ = 0;
};

// The message of the error that `act` throws, or "none".
template <class Act> std::string error_of(const Act& act) {
  try {
    act();
  } catch (const Error& error) { return fmt::format("{}: {}", static_cast<int>(error.code), error.what()); }
  return "none";
}

}  // namespace retort
