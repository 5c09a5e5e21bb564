// One side of tools/bench/tokenize: encodes documents on some threads and prints what it took, as JSON.
// tokenize_bench TOKENIZER_FOLDER DOCUMENTS IDS_OUT [text|tokens] [THREADS]: documents end in a NUL each; ids
// are written as int32, -1 after each document.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/files.h"
#include "base/ordered_work.h"
#include "text/tokenizer.h"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int main(int count, char** arguments) try {
  using namespace retort;
  if (count < 4) {
    fmt::print(stderr, "usage: tokenize_bench TOKENIZER_FOLDER DOCUMENTS IDS_OUT [text|tokens] [THREADS]\n");
    return 2;
  }
  const double start = now();
  const auto tokenizer = tokenizer_from_folder(arguments[1]);
  const double loaded = now() - start;
  const auto specials =
      count > 4 && std::string_view(arguments[4]) == "tokens" ? Specials::as_tokens : Specials::as_text;
  const std::string text = read_text(arguments[2]);
  std::vector<std::string_view> documents;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\0', at), text.size());
    documents.push_back(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
  constexpr size_t kBatchBytes = size_t{1} << 16;
  const int64_t threads = count > 5 ? std::max(1, std::atoi(arguments[5])) : 1;
  OrderedWork work(threads, static_cast<size_t>(threads) * 4);
  double best = std::numeric_limits<double>::max(), first = 0;
  size_t tokens = 0;
  std::vector<int32_t> ids;
  for (int round = 0; round < 5; ++round) {
    tokens = 0;
    ids.clear();
    const double begin = now();
    for (size_t at = 0; at < documents.size();) {  // batches as data/record_source.cpp makes them
      const size_t begins = at;
      for (size_t bytes = 0; at < documents.size() && bytes < kBatchBytes; ++at)
        bytes += documents[at].size();
      work.add([&, begins, end = at]() -> OrderedWork::Later {
        std::vector<int32_t> some;
        for (size_t i = begins; i < end; ++i) {
          const auto row = tokenizer->encode(documents[i], specials);
          some.insert(some.end(), row.begin(), row.end());
          some.push_back(-1);
        }
        return [&, some = std::move(some), count = end - begins] {
          tokens += some.size() - count;
          ids.insert(ids.end(), some.begin(), some.end());
        };
      });
    }
    work.finish();
    const double seconds = now() - begin;
    if (round == 0) first = seconds;
    best = std::min(best, seconds);
  }
  std::ofstream(arguments[3], std::ios::binary)
      .write(reinterpret_cast<const char*>(ids.data()),
             static_cast<std::streamsize>(ids.size() * sizeof(int32_t)));
  fmt::print(
      "{{\"bytes\": {}, \"documents\": {}, \"tokens\": {}, \"load_seconds\": {:.4f}, \"first_seconds\": "
      "{:.4f}, \"best_seconds\": {:.4f}}}\n",
      text.size(), documents.size(), tokens, loaded, first, best);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
