#include "text/export_tokenizer.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "text/bpe.h"

namespace retort {
namespace {

constexpr const char* kSpaceMark = "\u2581";
constexpr float kScoreOfHoles = -1000;  // as llama.cpp's converter writes it; nothing merges into them

const BpeTokenizer& byte_pairs(const Tokenizer& tokenizer, std::string_view what) {
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  if (bpe == nullptr)
    throw RecipeError(
        fmt::format("this SentencePiece model (unigram, or with normalization rules) cannot be written as "
                    "{}; copy its tokenizer.model",
                    what));
  return *bpe;
}

std::string json_text(std::string_view text) { return Json(text).dump(); }
const std::string& spelling(const BpeModel& model, int32_t id) {
  return model.tokens[static_cast<size_t>(id)];
}

OrderedJson added_token(const BpeModel& model, const AddedToken& token) {
  // With a Prepend normalizer, Hugging Face would look for the normalized spelling, U+2581 in front.
  const bool prepended = model.prefix == BpeModel::Prefix::always && !model.prefix_unless_there;
  return {{"id", token.id},
          {"content", token.text},
          {"single_word", token.single_word},
          {"lstrip", token.strip_left},
          {"rstrip", token.strip_right},
          {"normalized", token.normalized && !(prepended && model.order == BpeModel::Order::scores)},
          {"special", token.control && token.special}};
}

OrderedJson normalizer(const BpeModel& model) {
  if (model.nfc) return {{"type", "NFC"}};
  if (model.alphabet == BpeModel::Alphabet::bytes || model.prefix_unless_there || model.split_words)
    return nullptr;
  const OrderedJson replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMark}};
  if (model.prefix == BpeModel::Prefix::never) return replace;
  return {{"type", "Sequence"}, {"normalizers", {{{"type", "Prepend"}, {"prepend", kSpaceMark}}, replace}}};
}

OrderedJson pre_tokenizer(const BpeModel& model) {
  if (model.alphabet == BpeModel::Alphabet::characters) {
    if (!model.prefix_unless_there && !model.split_words) return nullptr;
    const char* scheme = model.prefix == BpeModel::Prefix::always  ? "always"
                         : model.prefix == BpeModel::Prefix::first ? "first"
                                                                   : "never";
    return {{"type", "Metaspace"},
            {"replacement", kSpaceMark},
            {"prepend_scheme", scheme},
            {"split", model.split_words}};
  }
  OrderedJson parts = OrderedJson::array();
  bool built_in = false;
  for (const Split split : model.splits) {
    built_in = split == Split::gpt2 && split == model.splits.back();
    if (built_in) continue;
    if (split == Split::one_number) parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
    else
      parts.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", split_pattern(split)}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
  }
  parts.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", built_in}});
  return {{"type", "Sequence"}, {"pretokenizers", parts}};
}

OrderedJson decoder(const BpeModel& model) {
  if (model.alphabet == BpeModel::Alphabet::bytes)
    return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  OrderedJson parts = {{{"type", "Replace"}, {"pattern", {{"String", kSpaceMark}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}}};
  if (model.prefix != BpeModel::Prefix::never)
    parts.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", parts}};
}

OrderedJson post_processor(const BpeTokenizer& tokenizer) {
  const BpeModel& model = tokenizer.model();
  if (!tokenizer.add_bos || !tokenizer.bos) {
    if (model.alphabet == BpeModel::Alphabet::characters) return nullptr;
    return {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  }
  const std::string& bos = spelling(model, *tokenizer.bos);
  const OrderedJson first = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}},
                    a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                    b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  return {{"type", "TemplateProcessing"},
          {"single", {first, a}},
          {"pair", {first, a, b}},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {*tokenizer.bos}}, {"tokens", {bos}}}}}}};
}

std::string model_json(const BpeTokenizer& tokenizer) {
  const BpeModel& model = tokenizer.model();
  const auto count = static_cast<int32_t>(model.tokens.size());
  std::string text = fmt::format(
      R"({{"type": "BPE", "dropout": null, "unk_token": {}, "continuing_subword_prefix": null,)"
      R"( "end_of_word_suffix": null, "fuse_unk": {}, "byte_fallback": {}, "ignore_merges": {}, "vocab": {{)",
      model.alphabet == BpeModel::Alphabet::characters && model.unknown
          ? json_text(spelling(model, *model.unknown))
          : "null",
      model.fuse_unknown, model.byte_fallback, model.ignore_merges);
  const char* separator = "";
  for (int32_t id = 0; id < count; ++id) {
    if (std::ranges::binary_search(tokenizer.holes(), id)) continue;
    text += fmt::format("{}\n{}: {}", separator, json_text(spelling(model, id)), id);
    separator = ",";
  }
  text += "}, \"merges\": [";
  separator = "";
  for (const RankedMerge& merge : tokenizer.merge_list()) {
    if (merge.left >= count || merge.right >= count)
      throw RecipeError(
          fmt::format("token '{}' merges from a character that is no token, which tokenizer.json cannot say",
                      printable(spelling(model, merge.result))));
    text += fmt::format("{}\n[{}, {}]", separator, json_text(spelling(model, merge.left)),
                        json_text(spelling(model, merge.right)));
    separator = ",";
  }
  return text + "]}";
}

// One score a token for a merge list: possible when all merges into one token stand side by side, and every
// split of a token into two tokens is in the list.
std::vector<float> scores_from_merges(const BpeTokenizer& tokenizer) {
  const BpeModel& model = tokenizer.model();
  const auto refuse = [&](int32_t token) {
    throw RecipeError(fmt::format(
        "the merges into token '{}' cannot be expressed by one score, which GGUF's 'llama' vocabulary needs",
        printable(spelling(model, token))));
  };
  const std::vector<RankedMerge> list = tokenizer.merge_list();
  std::vector<float> scores(model.tokens.size(), 0);
  std::vector<size_t> merges_into(model.tokens.size(), 0);
  int32_t previous = -1;
  for (const RankedMerge& merge : list) {
    const auto result = static_cast<size_t>(merge.result);
    if (++merges_into[result] == 1) scores[result] = -static_cast<float>(merge.rank) - 1;
    else if (previous != merge.result) refuse(merge.result);
    previous = merge.result;
  }
  const auto last =
      static_cast<float>(list.size() + 1);  // what no merge makes comes after all that merges make
  for (size_t i = 0; i < scores.size(); ++i)
    if (merges_into[i] == 0 && model.types[i] == TokenType::normal) scores[i] = -last - static_cast<float>(i);
  BpeModel by_scores = model;
  by_scores.order = BpeModel::Order::scores;
  by_scores.merges.clear();
  by_scores.scores = scores;
  std::vector<size_t> splits(model.tokens.size(), 0);
  for (const RankedMerge& merge : BpeTokenizer(std::move(by_scores), "export").merge_list())
    ++splits[static_cast<size_t>(merge.result)];
  for (size_t i = 0; i < splits.size(); ++i)
    if (splits[i] != merges_into[i]) refuse(static_cast<int32_t>(i));
  return scores;
}

}  // namespace

std::string tokenizer_json(const Tokenizer& tokenizer) {
  const BpeTokenizer& bpe = byte_pairs(tokenizer, "tokenizer.json");
  const BpeModel& model = bpe.model();
  OrderedJson added = OrderedJson::array();
  std::vector<AddedToken> sorted = model.added;
  std::ranges::sort(sorted, {}, &AddedToken::id);
  for (const AddedToken& token : sorted) added.push_back(added_token(model, token));
  return fmt::format(
      "{{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": "
      "{},\n\"normalizer\": {},\n\"pre_tokenizer\": {},\n\"post_processor\": {},\n\"decoder\": "
      "{},\n\"model\": {}\n}}\n",
      added.dump(), normalizer(model).dump(), pre_tokenizer(model).dump(), post_processor(bpe).dump(),
      decoder(model).dump(), model_json(bpe));
}

void write_tokenizer_folder(const Tokenizer& tokenizer, const std::filesystem::path& folder,
                            const ChatFields& chat) {
  const std::string json = tokenizer_json(tokenizer);
  OrderedJson names = OrderedJson::object();
  const auto name = [&](const char* key, std::optional<int32_t> id) {
    if (id) names[key] = tokenizer.token_text(*id);
  };
  name("bos_token", tokenizer.bos);
  name("eos_token", chat.eos ? chat.eos : tokenizer.eos);
  name("pad_token", tokenizer.pad);
  name("unk_token", tokenizer.unknown);
  OrderedJson config = {{"add_bos_token", tokenizer.add_bos},
                        {"add_eos_token", false},
                        {"clean_up_tokenization_spaces", false}};
  config.update(names);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (!chat.other_templates.empty()) {
    auto& list = config["chat_template"] = OrderedJson::array();
    if (!chat.chat_template.empty()) list.push_back({{"name", "default"}, {"template", chat.chat_template}});
    for (const auto& [other, source] : chat.other_templates)
      list.push_back({{"name", other}, {"template", source}});
  } else if (!chat.chat_template.empty()) {
    config["chat_template"] = chat.chat_template;
  }
  make_folder(folder);
  write_text(folder / "tokenizer.json", json);
  write_text(folder / "tokenizer_config.json", config.dump(2) + "\n");
  write_text(folder / "special_tokens_map.json", names.dump(2) + "\n");
}

namespace {

// llama.cpp wants a token for every row of the embedding, and a row for every token.
void fit_to_rows(GgufVocabulary& vocabulary, int64_t rows) {
  const auto before = vocabulary.tokens.size(), after = static_cast<size_t>(rows);
  if (after < before) {
    const std::set<std::string_view> gone(vocabulary.tokens.begin() + rows, vocabulary.tokens.end());
    std::erase_if(vocabulary.merges, [&](const std::string& merge) {
      const std::string_view text = merge;
      const auto space = text.find(' ', 1);
      const auto left = text.substr(0, space), right = text.substr(space + 1);
      return gone.contains(left) || gone.contains(right) || gone.contains(std::string(left).append(right));
    });
    for (auto* id : {&vocabulary.bos, &vocabulary.eos, &vocabulary.pad, &vocabulary.unknown})
      if (*id && **id >= rows) id->reset();
  }
  std::set<std::string> taken;
  if (after > before) taken.insert(vocabulary.tokens.begin(), vocabulary.tokens.end());
  vocabulary.tokens.resize(after);
  vocabulary.token_types.resize(after, static_cast<int32_t>(TokenType::unused));
  if (!vocabulary.scores.empty()) vocabulary.scores.resize(after, kScoreOfHoles);
  for (auto id = before; id < after; ++id) {
    auto& spelling = vocabulary.tokens[id] = spelling_of_hole(static_cast<int64_t>(id));
    while (!taken.insert(spelling).second) spelling += ' ';
  }
}

}  // namespace

bool puts_space_first_only(const Tokenizer& tokenizer) {
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  return bpe && bpe->model().prefix == BpeModel::Prefix::first;
}

GgufVocabulary gguf_vocabulary(const Tokenizer& tokenizer, int64_t rows) {
  const BpeTokenizer& bpe = byte_pairs(tokenizer, "GGUF metadata");
  const BpeModel& model = bpe.model();
  const bool characters = model.alphabet == BpeModel::Alphabet::characters;
  if (model.split_words)
    throw RecipeError("GGUF cannot say that merges stay inside words (Metaspace with split)");
  if (!characters && find_pre_tokenizer(model.pre) == nullptr)
    throw RecipeError(
        "llama.cpp has no name for this tokenizer's pre-tokenizer, so that it cannot be written to GGUF");
  GgufVocabulary vocabulary;
  vocabulary.model = characters ? "llama" : "gpt2";
  vocabulary.pre = characters && model.pre.empty() ? "default" : model.pre;
  vocabulary.tokens = model.tokens;
  for (const TokenType type : model.types) vocabulary.token_types.push_back(static_cast<int32_t>(type));
  for (const AddedToken& token : model.added)  // llama.cpp looks for them in the raw text
    if (characters && token.normalized && !token.control)
      vocabulary.tokens[static_cast<size_t>(token.id)] = spaces_for_marks(token.text);
  vocabulary.scores =
      characters && model.order == BpeModel::Order::merges ? scores_from_merges(bpe) : model.scores;
  if (!characters)
    for (const RankedMerge& merge :
         model.order == BpeModel::Order::ids ? bpe.last_merges() : bpe.merge_list())
      vocabulary.merges.push_back(spelling(model, merge.left) + " " + spelling(model, merge.right));
  vocabulary.bos = tokenizer.bos;
  vocabulary.eos = tokenizer.eos;
  vocabulary.pad = tokenizer.pad;
  vocabulary.unknown = tokenizer.unknown;
  vocabulary.add_bos = model.add_bos;
  vocabulary.add_eos = model.add_eos;
  vocabulary.add_space_prefix = model.add_space_prefix;
  if (rows > 0 && rows != tokenizer.size()) fit_to_rows(vocabulary, rows);
  return vocabulary;
}

}  // namespace retort
