/* SPDX-License-Identifier: MIT */
/*
 * containers.cc - the C++ library's containers as a workload.
 *
 * Maps of strings, a cache that forgets what was used least recently, trees,
 * vectors that grow together and a queue: what is allocated by new and, since
 * the compiler knows the size, freed by the sized delete.
 */
#include <cstddef>
#include <cstdio>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

unsigned long long state = 88172645463325252ULL;

std::size_t below(std::size_t most)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return static_cast<std::size_t>(state >> 16) % most;
}

std::string text(std::size_t most)
{
	return std::string(below(most), static_cast<char>('a' + below(26)));
}

std::size_t maps()
{
	std::map<std::size_t, std::string> map;

	for (int i = 0; i < 100000; i++)
		map[below(200000)] = text(60);
	for (int i = 0; i < 100000; i++)
		map.erase(below(200000));
	return map.size();
}

/* Each key's vector grows by itself, and the table with the keys. */
std::size_t tables()
{
	std::unordered_map<std::size_t, std::vector<int>> table;

	for (int i = 0; i < 400000; i++)
		table[below(50000)].push_back(i);
	return table.size();
}

std::size_t cache()
{
	using entries = std::list<std::pair<std::size_t, std::string>>;
	entries list;
	std::unordered_map<std::size_t, entries::iterator> places;

	for (int i = 0; i < 600000; i++) {
		std::size_t key = below(60000);
		auto place = places.find(key);

		if (place != places.end()) {
			list.splice(list.begin(), list, place->second);
			continue;
		}
		list.emplace_front(key, text(below(8) == 0 ? 2000 : 60));
		places[key] = list.begin();
		if (list.size() > 20000) {
			places.erase(list.back().first);
			list.pop_back();
		}
	}
	return list.front().first;
}

struct node {
	std::vector<std::unique_ptr<node>> children;
	std::string name;
};

std::unique_ptr<node> tree(int depth)
{
	auto n = std::make_unique<node>();
	std::size_t count = depth == 0 ? 0 : 1 + below(6);

	n->name = text(40);
	while (count-- > 0)
		n->children.push_back(tree(depth - 1));
	return n;
}

std::size_t trees()
{
	std::size_t children = 0;

	for (int i = 0; i < 100; i++)
		children += tree(8)->children.size();
	return children;
}

std::size_t vectors()
{
	std::size_t longest = 0;

	for (int round = 0; round < 10; round++) {
		std::vector<std::vector<int>> all(200);

		for (int i = 0; i < 2000000; i++)
			all[below(all.size())].push_back(i);
		for (const auto &one : all)
			longest = one.size() > longest ? one.size() : longest;
	}
	return longest;
}

std::size_t queue()
{
	std::deque<std::string> waiting;
	std::size_t bytes = 0;

	for (int i = 0; i < 1500000; i++) {
		waiting.push_back(text(50));
		while (waiting.size() > 5000 + below(2)) {
			bytes += waiting.front().size();
			waiting.pop_front();
		}
	}
	return bytes;
}

}

int main()
{
	static std::size_t (*const uses[])() = {maps,  tables,	cache,
						trees, vectors, queue};

	for (auto use : uses)
		std::printf("%zu ", use());
	std::puts("");
	return 0;
}
