#include "import/compression_config.h"

#include <algorithm>

#include "base/error.h"
#include "spec/read.h"

namespace retort {
namespace {

template <class Config> Config read(YamlNode& root, std::vector<Problem>& problems) {
  std::erase_if(root.entries, [](const auto& entry) {
    return entry.key.text == "polynomial_terms" && entry.value.kind == YamlNode::Kind::null;
  });  // null: none
  Config config;
  SpecReader reader(root, {}, problems);
  config.fields(reader);
  reader.finish();
  return config;
}

bool is_term(const std::string& term) {
  const bool number =
      !term.empty() && term.size() <= 2 && term.find_first_not_of("0123456789") == std::string::npos;
  return number || term == "sqrt" || term == "exp";
}

void check(const PackedRows& config, const std::string& name) {
  const auto curved = config.k - config.exact_k;
  int64_t in_bins = 0;
  for (const auto& bin : config.residual_bins) in_bins += bin.num_elements;
  for (const auto& term : config.polynomial_terms)
    if (!is_term(term))
      corrupt(name, "polynomial_terms",
              fmt::format("expected powers from 0 to 99, sqrt and exp, found '{}'", printable(term)));
  if (config.polynomial_terms.size() > 64)
    corrupt(name, "polynomial_terms",
            fmt::format("has {} terms; expected at most 64", config.polynomial_terms.size()));
  if (config.k > config.d)
    corrupt(name, "k", fmt::format("keeps {} ranks of a vocabulary of {}", config.k, config.d));
  if (curved < 0)
    corrupt(name, "exact_k", fmt::format("expected at most k ({}), found {}", config.k, config.exact_k));
  if (in_bins > curved)
    corrupt(name, "residual_bins",
            fmt::format("hold {} elements; expected at most k - exact_k ({})", in_bins, curved));
  if (curved > 0 && config.polynomial_terms.empty() && config.residual_bins.empty())
    corrupt(name, "k",
            fmt::format("{} ranks are neither exact nor in polynomial_terms or residual_bins", curved));
}

void check(const FittedRows& config, const std::string& name) {
  if (config.k > config.vocab_size)
    corrupt(name, "k", fmt::format("keeps {} ranks of a vocabulary of {}", config.k, config.vocab_size));
  if (config.exact_k > config.k)
    corrupt(name, "exact_k", fmt::format("expected at most k ({}), found {}", config.k, config.exact_k));
}

}  // namespace

CompressionConfig read_compression_config(std::string_view text, const std::string& name) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) corrupt(name, "", "is empty");
  std::vector<Problem> problems;
  auto root = parse_yaml(text, name, problems);
  CompressionConfig config;
  if (root.find("vocab_size") && !root.find("d")) config = read<FittedRows>(root, problems);
  else config = read<PackedRows>(root, problems);
  if (!problems.empty()) {
    const auto& first =
        *std::min_element(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
          return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
        });
    auto what = first.text.substr(0, first.text.find("; `retort explain"));
    throw FormatError(
        fmt::format("{}: {}{}", describe(first.place), what,
                    problems.size() > 1 ? fmt::format(" (and {} more)", problems.size() - 1) : ""));
  }
  std::visit([&](const auto& read_config) { check(read_config, name); }, config);
  return config;
}

}  // namespace retort
