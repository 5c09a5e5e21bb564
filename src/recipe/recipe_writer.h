// A recipe as people write them: only what is said, in the order of `retort explain`, with remarks.
#pragma once
#include <map>
#include <string>
#include <vector>

namespace retort {

std::string comment_line(std::string text);  // control characters become spaces

class RecipeWriter {
 public:
  // `path` is a key's, with numbers for places in lists: data.sources.0.path. `yaml` is its value as YAML;
  // the remark stands behind it.
  void set(const std::string& path, std::string yaml, std::string remark = "");
  void unset(const std::string& path) { values_.erase(path); }
  void note(const std::string& path, std::string text);  // a comment before a key or section
  bool has(const std::string& path) const { return values_.contains(path); }
  std::string value(const std::string& path) const;  // as YAML; "" where it is not set
  std::string remark(const std::string& path) const;
  std::string text() const { return section("", "", 0); }

 private:
  struct Value {
    std::string yaml, remark;
  };
  std::string section(const std::string& keys, const std::string& mine, int depth) const;
  std::string notes(const std::string& path, const std::string& indent) const;

  std::map<std::string, Value> values_;
  std::map<std::string, std::vector<std::string>> notes_;
};

}  // namespace retort
