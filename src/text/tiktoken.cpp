// Moonshot's tiktoken.model (Kimi K2, Moonlight): a token and its rank a line. The pattern stands in the code
// beside it (tokenization_kimi.py, tokenization_moonshot.py), and so do the 256 ids of control tokens behind
// the last rank, some of which tokenizer_config.json names.
#include <charconv>

#include "base/error.h"
#include "text/base64.h"
#include "text/bpe.h"
#include "text/folder_settings.h"

namespace retort {
namespace {

constexpr size_t kReserved = 256;

// The code that a folder names for its tokenizer: "tokenization_kimi.TikTokenTokenizer".
std::string code_of(const Json& config) {
  const auto map = config.find("auto_map");
  if (map == config.end() || !map->is_object()) return "";
  const auto found = map->find("AutoTokenizer");
  if (found == map->end()) return "";
  const auto& named = found->is_array() && !found->empty() ? found->front() : *found;
  return named.is_string() ? named.get<std::string>() : "";
}

// "aGVsbG8= 1234"
void read_ranks(std::string_view text, std::string_view file, BpeModel& model) {
  std::string bytes;
  for (size_t line = 1; !text.empty(); ++line) {
    const auto here = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), here.size() + 1));
    if (here.empty() || here == "\r") continue;
    const auto gap = here.find(' ');
    const auto fail = [&](const char* problem) { corrupt(file, fmt::format("line {}", line), problem); };
    if (gap == std::string_view::npos || gap > 2 * kLongestToken ||
        !decode_base64(here.substr(0, gap), bytes) || bytes.empty())
      fail("does not begin with the base64 of a token");
    auto number = here.substr(gap + 1);
    if (number.ends_with('\r')) number.remove_suffix(1);
    size_t rank = 0;
    const auto [stop, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
    if (error != std::errc() || stop != number.data() + number.size() || rank != model.tokens.size())
      fail("does not end with its place as the rank");
    if (rank >= kMostTokens) fail("is one token too many");
    model.tokens.push_back(byte_level_spelling(bytes));
    model.types.push_back(TokenType::normal);
  }
  if (model.tokens.empty()) corrupt(file, "", "holds no token");
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, std::string_view file,
                                                   const std::filesystem::path& folder) {
  const auto config_file = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(config_file))
    corrupt(file, "", "stands without tokenizer_config.json, which says by what code it is read");
  const auto code = code_of(read_json(config_file));
  if (!code.starts_with("tokenization_kimi.") && !code.starts_with("tokenization_moonshot."))
    corrupt(
        file, "",
        fmt::format("is read by the code '{}', whose pattern is not known; known are tokenization_kimi and "
                    "tokenization_moonshot (auto_map in tokenizer_config.json)",
                    printable(code)));
  BpeModel model;
  model.order = BpeModel::Order::ids;
  model.ignore_merges = true;
  model.pre = "kimi-k2";
  model.splits = {Split::kimi};
  read_ranks(ranks, file, model);
  const auto settings = read_folder_settings(folder);
  const auto first = model.tokens.size();
  for (size_t id = first; id < first + kReserved; ++id) {
    AddedToken token{.text = fmt::format("<|reserved_token_{}|>", id), .id = static_cast<int32_t>(id)};
    for (const auto& named : settings.added)
      if (named.id == token.id) token = named;
    token.control = true;
    model.tokens.push_back(token.text);
    model.types.push_back(TokenType::control);
    model.added.push_back(std::move(token));
  }
  for (const auto& named : settings.added)
    if (static_cast<size_t>(named.id) < first || static_cast<size_t>(named.id) >= first + kReserved)
      corrupt(config_file.string(), "added_tokens_decoder",
              fmt::format("'{}' has the id {}, which is none of the control tokens' {} to {}",
                          printable(named.text), named.id, first, first + kReserved - 1));
  const auto named = [&](const std::string& text) -> std::optional<int32_t> {
    for (const auto& token : model.added)
      if (token.text == text) return token.id;
    return std::nullopt;
  };
  model.bos = named(settings.bos), model.eos = named(settings.eos), model.pad = named(settings.pad);
  model.add_bos = settings.add_bos.value_or(false), model.add_eos = settings.add_eos.value_or(false);
  return std::make_unique<BpeTokenizer>(std::move(model), file);
}

}  // namespace retort
