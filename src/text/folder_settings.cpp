#include "text/folder_settings.h"

#include <algorithm>
#include <charconv>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "text/bpe.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// An object, or nothing where the file is absent.
Json object_in(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  auto json = read_json(file);
  if (!json.is_object()) corrupt(file.string(), "", "is not a JSON object");
  return json;
}

int32_t id_of(const Json& value, const fs::path& file, std::string_view token) {
  if (!value.is_number_integer() || value < 0 || value >= static_cast<int64_t>(kMostTokens))
    corrupt(file.string(), token, "its id is not a whole number of a token");
  return value.get<int32_t>();
}

int32_t id_of_key(const std::string& key, const fs::path& file) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size())
    corrupt(file.string(), "added_tokens_decoder", "'" + printable(key) + "' is not the id of a token");
  return id_of(id, file, key);
}

bool flag(const Json& token, const char* key) {
  const auto found = token.find(key);
  return found != token.end() && found->is_boolean() && found->get<bool>();
}

std::optional<bool> flag_if_there(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_boolean() ? std::optional(found->get<bool>()) : std::nullopt;
}

}  // namespace

std::string special_text(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  return found->is_object() && found->contains("content") && (*found)["content"].is_string()
             ? (*found)["content"].get<std::string>()
             : "";
}

FolderSettings read_folder_settings(const fs::path& folder) {
  const auto config_file = folder / "tokenizer_config.json", added_file = folder / "added_tokens.json";
  const auto config = object_in(config_file), names = object_in(folder / "special_tokens_map.json"),
             added = object_in(added_file);
  FolderSettings settings;
  const auto name = [&](const char* key) {
    const auto text = special_text(config, key);
    return text.empty() ? special_text(names, key) : text;
  };
  settings.bos = name("bos_token"), settings.eos = name("eos_token"), settings.pad = name("pad_token");
  settings.add_bos = flag_if_there(config, "add_bos_token");
  settings.add_eos = flag_if_there(config, "add_eos_token");

  std::map<int32_t, AddedToken> tokens;
  for (const auto& [text, id] : added.items())
    tokens[id_of(id, added_file, text)] = {
        .text = text, .control = looks_like_control(text), .special = false};
  if (const auto decoder = config.find("added_tokens_decoder");
      decoder != config.end() && decoder->is_object()) {
    for (const auto& [key, token] : decoder->items()) {
      const auto text = special_text(*decoder, key.c_str());
      if (text.empty())
        corrupt(config_file.string(), "added_tokens_decoder", "token " + printable(key) + " has no content");
      const bool special = flag(token, "special");
      tokens[id_of_key(key, config_file)] = {.text = text,
                                             .control = special || looks_like_control(text),
                                             .special = special,
                                             .normalized = flag(token, "normalized"),
                                             .strip_left = flag(token, "lstrip"),
                                             .strip_right = flag(token, "rstrip"),
                                             .single_word = flag(token, "single_word")};
    }
  }
  // What begins, ends and pads texts is no text, whatever older files call it.
  for (auto& [id, token] : tokens) {
    token.id = id;
    if (token.text == settings.bos || token.text == settings.eos || token.text == settings.pad)
      token.control = token.special = true;
    settings.added.push_back(token);
  }
  return settings;
}

}  // namespace retort
