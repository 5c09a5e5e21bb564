// The stored strings and the reference's ids for them (tools/golden/tokenizer_ids.py).
#pragma once
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "where.h"  // tests

namespace retort {

inline std::string source_path(const std::string& path) { return std::string(source_dir()) + "/" + path; }

inline std::string gunzip(const std::filesystem::path& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("cannot open " + path.string());
  std::string text;
  char part[1 << 16];
  for (int count = gzread(file, part, sizeof part); count > 0; count = gzread(file, part, sizeof part))
    text.append(part, static_cast<size_t>(count));
  gzclose(file);
  return text;
}

inline Json golden(const std::string& name) {
  return Json::parse(gunzip(source_path("tests/golden/tokenizers/" + name + ".json.gz")));
}

inline std::vector<std::string> hard_strings() {
  std::vector<std::string> strings;
  const Json stored = golden("strings");
  for (const auto& entry : stored.at("hex")) {
    const auto hex = entry.get<std::string>();
    std::string text;
    for (size_t i = 0; i < hex.size(); i += 2)
      text.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    strings.push_back(text);
  }
  return strings;
}

// Every string's ids equal the golden's, both with special tokens as text and as tokens.
inline void expect_golden_ids(const Tokenizer& tokenizer, const Json& expected) {
  const std::vector<std::string> strings = hard_strings();
  ASSERT_GE(strings.size(), 500u);
  for (const auto& [key, specials] :
       {std::pair{"as_text", Specials::as_text}, std::pair{"as_tokens", Specials::as_tokens}}) {
    if (!expected.contains(key)) continue;
    const Json& rows = expected.at(key);
    ASSERT_EQ(rows.size(), strings.size());
    int different = 0, left_out = 0;
    for (size_t i = 0; i < strings.size(); ++i) {
      if (rows[i].is_null()) {  // the reference itself is undecided
        ++left_out;
        continue;
      }
      const auto ids = tokenizer.encode(strings[i], specials);
      if (Json(ids) == rows[i] || ++different > 5) continue;
      ADD_FAILURE() << key << " string " << i << " "
                    << Json(strings[i]).dump(-1, ' ', true, Json::error_handler_t::replace) << "\n  ours "
                    << Json(ids) << "\n  reference " << rows[i];
    }
    EXPECT_EQ(different, 0) << key;
    EXPECT_GE(rows.size() - static_cast<size_t>(left_out), 500u);
  }
}

}  // namespace retort
